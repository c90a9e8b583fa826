"""What tools and files of a host say of its lanes and queues, as data. Pure: text in.

Written from what smpquery 44 prints on a simulated subnet and from the documentation of mlnx_qos, dcb and ethtool.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dualpath_ray.base.vl_tables import VlWeight

_SL2VL_ROW = re.compile(r"^ports:.*?:\s*\|(.*)\|\s*$", re.MULTILINE)
_HEX = re.compile(r"\|\s*(0x[0-9a-fA-F]+)\s*(?=\|)")
_HIGH_LIMIT = re.compile(r"^VLHighLimit:\.*(\d+)\s*$", re.MULTILINE)
_TRUST = re.compile(r"^\s*Priority trust state:\s*(\w+)", re.MULTILINE)
_DSCPS = re.compile(r"^\s*prio:(\d)\s+dscp:([\d,]*)", re.MULTILINE)
_PFC = re.compile(r"^\s*enabled((?:\s+[01]){8})\s*$", re.MULTILINE)
_QUEUE = re.compile(r"^\s*tc:\s*(\d)\s.*tsa:\s*(\w+)(?:,\s*bw:\s*(\d+)%)?")
_QUEUE_PRIORITY = re.compile(r"^\s*priority:\s*(\d)\s*$")
_PAUSE = re.compile(r"^(RX|TX):\s*(on|off)\s*$", re.MULTILINE)
_GLOBAL_CLASS = re.compile(r"^Global tclass=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PortTables:
    """Arbitration tables of an InfiniBand port, with the empty entries that it has room for."""

    high: tuple[VlWeight, ...] = ()
    low: tuple[VlWeight, ...] = ()


@dataclass(frozen=True, slots=True)
class NicQueues:
    """Queues of an Ethernet NIC. What the tool did not say is not there."""

    trust: str | None = None  # dscp or pcp
    priority_of_dscp: Mapping[int, int] = field(default_factory=dict)
    doubled_dscps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # all priorities of those with several
    queue_of_priority: Mapping[int, int] = field(default_factory=dict)
    kind_of_queue: Mapping[int, str] = field(default_factory=dict)  # ets, strict or another one
    percent_of_queue: Mapping[int, int] = field(default_factory=dict)  # of queues that share (ETS), not of strict ones
    pfc: Mapping[int, bool] = field(default_factory=dict)


def parse_sl2vl(text: str) -> tuple[int, ...] | None:
    """Lane of each service level, of ``smpquery sl2vl`` on a NIC's port; None when there is no such row."""
    row = _SL2VL_ROW.search(text)
    try:
        lanes = tuple(int(cell) for cell in row[1].split("|")) if row else ()
    except ValueError:
        return None
    return lanes if len(lanes) == 16 else None


def parse_vlarb(text: str) -> PortTables | None:
    """Of ``smpquery vlarb``; None when a table is missing."""
    tables: dict[str, list[VlWeight]] = {}
    name, lanes = "", list[int]()
    for line in text.splitlines():
        if line.startswith("#"):
            name = line.removeprefix("#").lstrip().partition(" ")[0]
        elif line.startswith("VL "):
            lanes = _cells(line)
        elif line.startswith("WEIGHT"):
            tables.setdefault(name, []).extend(map(VlWeight, lanes, _cells(line)))
    if "High" not in tables or "Low" not in tables:
        return None
    return PortTables(tuple(tables["High"]), tuple(tables["Low"]))


def parse_high_limit(text: str) -> int | None:
    """Of ``smpquery portinfo``."""
    found = _HIGH_LIMIT.search(text)
    return int(found[1]) if found else None


def parse_mlnx_qos(text: str) -> NicQueues:
    """Of ``mlnx_qos -i``."""
    trust, enabled = _TRUST.search(text), _PFC.search(text)
    dscps = [(int(dscp), int(found[1])) for found in _DSCPS.finditer(text) for dscp in found[2].split(",") if dscp]
    queues: dict[int, int] = {}
    kinds: dict[int, str] = {}
    percents: dict[int, int] = {}
    queue = None
    for line in text.splitlines():
        if found := _QUEUE.match(line):
            queue = int(found[1])
            kinds[queue] = found[2]
            if found[2] == "ets" and found[3]:
                percents[queue] = int(found[3])
        elif queue is not None and (found := _QUEUE_PRIORITY.match(line)):
            queues[int(found[1])] = queue
    return NicQueues(
        trust=trust[1] if trust else None,
        priority_of_dscp=dict(dscps),
        doubled_dscps=_doubled(dscps),
        queue_of_priority=queues,
        kind_of_queue=kinds,
        percent_of_queue=percents,
        pfc={priority: flag == "1" for priority, flag in enumerate(enabled[1].split())} if enabled else {},
    )


def parse_dcb(ets: str, pfc: str, app: str) -> NicQueues:
    """Of ``dcb -N ets|pfc|app show dev``. It does not say what the NIC trusts."""
    dscps = _numbers(_pairs(app, "dscp-prio"))
    kinds = {int(queue): kind for queue, kind in _pairs(ets, "tc-tsa") if queue.isdecimal()}
    shares = _numbers(_pairs(ets, "tc-bw"))
    return NicQueues(
        priority_of_dscp=dict(dscps),
        doubled_dscps=_doubled(dscps),
        queue_of_priority=dict(_numbers(_pairs(ets, "prio-tc"))),
        kind_of_queue=kinds,
        percent_of_queue={queue: share for queue, share in shares if kinds.get(queue) == "ets"},
        pfc={int(priority): state == "on" for priority, state in _pairs(pfc, "prio-pfc") if priority.isdecimal()},
    )


def parse_pause(text: str) -> bool | None:
    """Whether the whole link is paused in either direction, of ``ethtool -a``."""
    states = [found[2] for found in _PAUSE.finditer(text)]
    return "on" in states if states else None


def parse_global_class(text: str) -> int | None:
    """The class that a device forces on all its queue pairs, of ``tc/1/traffic_class`` in sysfs; None when none."""
    found = _GLOBAL_CLASS.search(text)
    return int(found[1]) if found else None


def _cells(line: str) -> list[int]:
    return [int(cell, 16) for cell in _HEX.findall(line)]


def _pairs(text: str, key: str) -> list[tuple[str, str]]:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == [key]:
            return [(first, second) for first, colon, second in (word.partition(":") for word in words[1:]) if colon]
    return []


def _numbers(pairs: Iterable[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(int(key), int(value)) for key, value in pairs if key.isdecimal() and value.isdecimal()]


def _doubled(pairs: Iterable[tuple[int, int]]) -> dict[int, tuple[int, ...]]:
    """All values of every key that stands there more than once."""
    found: dict[int, tuple[int, ...]] = {}
    for key, value in pairs:
        found[key] = (*found.get(key, ()), value)
    return {key: values for key, values in found.items() if len(values) > 1}
