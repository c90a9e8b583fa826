"""Arbitration tables of InfiniBand's virtual lanes, read from the lines that opensm takes (appendix A.1). Pure.

A table is a list of (lane, weight). A lane may stand in a table several times, and in both.
"""

import re
from dataclasses import dataclass

from dualpath_ray.base.errors import ConfigError

UNIT_BYTES = 64  # of a weight; a packet takes whole units, as it takes whole credits of the link
NO_LIMIT = 255  # as qos_high_limit
DROPPED = 15  # as a service level's lane: the link drops its packets (VL15 is for management alone)

_LIMIT_UNITS = 4096 // UNIT_BYTES
_LANE_COUNTS = (1, 2, 4, 8, 15)  # what a port can be set to
_MOST_ENTRIES = 64
_SERVICE_LEVELS = 16
_ENTRY = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*", re.ASCII)
_LANE = re.compile(r"\s*(\d+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class VlWeight:
    """One entry of a table: what a lane may send in a turn, in units of 64 bytes; at 0 the entry is skipped."""

    vl: int
    weight: int


@dataclass(frozen=True, slots=True)
class VlTables:
    """Both tables of a port and its map of service levels to lanes, checked.

    Raises: ConfigError naming the key, as opensm spells it; also where a lane in use could never send.
    """

    high: tuple[VlWeight, ...]
    low: tuple[VlWeight, ...]
    high_limit: int  # in 4 KiB; 0 is one packet, 255 no limit
    max_vls: int
    sl_to_vl: tuple[int, ...]  # by service level; 15 drops it

    def __post_init__(self) -> None:
        _check_count(self.max_vls)
        if not 0 <= self.high_limit <= NO_LIMIT:
            raise ConfigError(f"qos_high_limit: {self.high_limit} is not from 0 (one packet) to 255 (no limit)")
        _check_table("qos_vlarb_high", self.high, self.max_vls)
        _check_table("qos_vlarb_low", self.low, self.max_vls)
        self._check_map()

    def _check_map(self) -> None:
        if len(self.sl_to_vl) != _SERVICE_LEVELS:
            raise ConfigError(f"qos_sl2vl: has {len(self.sl_to_vl)} lanes, write one for each of 16 service levels")
        served = {entry.vl for entry in self.high + self.low if entry.weight}
        for level, vl in enumerate(self.sl_to_vl):
            if vl == DROPPED:
                continue
            if not 0 <= vl < self.max_vls:
                raise ConfigError(f"qos_sl2vl: lane {vl} of service level {level} is beyond qos_max_vls {self.max_vls}")
            if vl not in served:
                raise ConfigError(
                    f"qos_vlarb_low: lane {vl} of service level {level} has no weight here nor in qos_vlarb_high, "
                    "so it would never send; give it one"
                )

    @property
    def limit_units(self) -> int | None:
        """The high table sends while it has sent fewer units than this, then the low one may. None: it always does."""
        return None if self.high_limit == NO_LIMIT else max(1, self.high_limit * _LIMIT_UNITS)


def _check_count(max_vls: int) -> None:
    if max_vls not in _LANE_COUNTS:
        raise ConfigError(f"qos_max_vls: {max_vls} is none of 1, 2, 4, 8 and 15, the lanes that a port can have")


def _check_table(key: str, entries: tuple[VlWeight, ...], max_vls: int) -> None:
    if len(entries) > _MOST_ENTRIES:
        raise ConfigError(f"{key}: {len(entries)} entries are more than the 64 that a table holds")
    lanes = [entry.vl for entry in entries]
    for entry in entries:
        if not 0 <= entry.vl < max_vls:
            raise ConfigError(f"{key}: lane {entry.vl} is beyond qos_max_vls {max_vls}")
        if not 0 <= entry.weight <= 255:
            side = "below 0" if entry.weight < 0 else "beyond 255"
            raise ConfigError(f"{key}: weight {entry.weight} of lane {entry.vl} is {side}")
        if entry.weight == 0 and lanes.count(entry.vl) > 1:
            raise ConfigError(
                f"{key}: lane {entry.vl} stands here with weight 0 and once more; keep one of these entries"
            )


def units_of(nbytes: int) -> int:
    """Units that a packet takes of a weight: the last one counts whole."""
    return -(-nbytes // UNIT_BYTES)


def default_sl_to_vl(max_vls: int) -> tuple[int, ...]:
    """What a port makes of opensm's default map: every service level its own lane, as far as lanes go.

    Raises: ConfigError when no port has so many lanes.
    """
    _check_count(max_vls)
    return tuple(vl % max_vls for vl in (*range(15), 7))


def parse_vl_tables(
    qos_max_vls: int, qos_high_limit: int, qos_vlarb_high: str, qos_vlarb_low: str, qos_sl2vl: str | None = None
) -> VlTables:
    """Tables from values as opensm writes them: ``"0:192,1:64"`` for a table, ``"0,1,2,3,..."`` for the map.

    Raises: ConfigError naming the key.
    """
    return VlTables(
        _parse_table("qos_vlarb_high", qos_vlarb_high),
        _parse_table("qos_vlarb_low", qos_vlarb_low),
        qos_high_limit,
        qos_max_vls,
        default_sl_to_vl(qos_max_vls) if qos_sl2vl is None else _parse_map(qos_sl2vl),
    )


def _parse_table(key: str, text: str) -> tuple[VlWeight, ...]:
    entries = []
    for part in text.split(",") if text.strip() else []:
        match = _ENTRY.fullmatch(part)
        if not match:
            raise ConfigError(f"{key}: {part.strip()!r} is no entry; write lane:weight, for example 0:192")
        entries.append(VlWeight(int(match[1]), int(match[2])))
    return tuple(entries)


def _parse_map(text: str) -> tuple[int, ...]:
    lanes = []
    for part in text.split(","):
        match = _LANE.fullmatch(part)
        if not match:
            raise ConfigError(
                f"qos_sl2vl: {part.strip()!r} is no lane; write 16 lanes, for example 0,1,2,3,0,1,2,3,..."
            )
        lanes.append(int(match[1]))
    return tuple(lanes)


PAPER_TABLES = parse_vl_tables(  # appendix A.1
    qos_max_vls=4,
    qos_high_limit=240,
    qos_vlarb_high="0:192,1:192,2:0,3:192",
    qos_vlarb_low="0:192,1:192,2:64,3:192",
)
