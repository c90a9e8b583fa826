"""From a system's status to what the live page shows, in words and in shares of a bar. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dualpath_ray.base.types import ReadPath
from dualpath_ray.base.units import format_bytes, format_rate
from dualpath_ray.observability.format import amount, count

SINGLE_PATH, DUAL_PATH = "prefill_only", "scheduled"  # the two that the page switches between
_LANE_WORDS = {("snic", "in"): "read", ("snic", "out"): "write", ("cnic", "in"): "receive", ("cnic", "out"): "send"}
_REASONS = {SINGLE_PATH: "single path: the prefill side reads"}  # the others say it themselves
_PATH_WORDS = {ReadPath.PE.value: "prefill side", ReadPath.DE.value: "decode side"}


def view_of(status: Mapping[str, Any], at_s: float) -> dict[str, Any]:
    """All that the page draws of one status.

    Args: status: of ``status_of``; at_s: wall clock, in seconds.
    """
    path = status["read_path"]
    lanes = [_lane(nic, path, _role_of(nic["nic"], status["nodes"])) for nic in status["nics"]]
    nodes = [_node(node, lanes, status["engines"]) for node in status["nodes"]]
    roles = [node["role"] for node in nodes]
    return {
        "at_s": at_s,
        "system": status["system"],
        "model": status["model"],
        "shape": f"{roles.count('prefill')}P{roles.count('decode')}D",
        "read_path": path,
        "counters": _counters(status["scheduler"]),
        "by_path": _by_path(status["scheduler"]["num_by_path"]),
        "pool": _pool(lanes),
        "storage": [_storage(node) for node in status["storage"]],
        "network": _network(lanes),
        "nodes": nodes,
        "snics": {lane["node"]: lane["share"] for lane in lanes if lane["kind"] == "snic" and lane["way"] == "in"},
        "problems": status["problems"],
    }


def _role_of(nic: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    name = nic.partition("/")[0]
    return next((str(node["role"]) for node in nodes if node["node"] == name), "")


def _lane(nic: Mapping[str, Any], path: str, role: str) -> dict[str, Any]:
    """One direction of a NIC. ``share`` is None where its rate, and so its utilisation, is not known."""
    node, name, way = nic["nic"].split("/")
    kind = name.rstrip("0123456789")
    rate = nic["rate_bytes_per_s"]
    share = nic["utilisation_ratio"] if rate else None
    words = {
        "does": _LANE_WORDS[kind, way],
        "percent": "not known" if share is None else f"{share * 100:.0f} %",
        "rate": _of_rate(nic["bytes_per_s"], rate) if rate else _per_s(nic["bytes_per_s"]),
        "queue": f"{format_bytes(nic['queued_bytes'])} queued" if nic["queued_bytes"] else "no queue",
        "device": nic["device"] or ("emulated" if nic["emulated"] else "no device named"),
    }
    # On the single path nobody lets a decode node's storage NIC read: the page says so, where it would seem to be idle.
    closed = path == SINGLE_PATH and role == "decode" and kind == "snic" and way == "in"
    return {
        "nic": nic["nic"],
        "node": node,
        "name": name,
        "kind": kind,
        "way": way,
        "share": share,
        "bytes_per_s": nic["bytes_per_s"],
        "rate_bytes_per_s": rate,
        "queued_bytes": nic["queued_bytes"],
        "closed": closed and not nic["bytes_per_s"] and not nic["queued_bytes"],
        **words,
    }


def _per_s(bytes_per_s: float) -> str:
    if bytes_per_s < 1000:
        return f"{bytes_per_s:.0f} B/s"
    return f"{bytes_per_s / 1000:.0f} kB/s" if bytes_per_s < 1e6 else format_rate(bytes_per_s * 8)


def _of_rate(bytes_per_s: float, rate: float) -> str:
    """``(1.4e6, 2e6) -> '1.4 of 2.0 MB/s'``: one unit for both, short enough to stand above a bar."""
    unit, name = (1e9, "GB/s") if rate >= 1e9 else (1e6, "MB/s")
    return f"{bytes_per_s / unit:.1f} of {rate / unit:.1f} {name}"


def _node(node: Mapping[str, Any], lanes: Sequence[dict[str, Any]], engines: Sequence[Any]) -> dict[str, Any]:
    own = [engine for engine in engines if engine["engine"].partition("/")[0] == node["node"]]
    unfinished = sum(engine["num_unfinished"] for engine in own)
    tokens = sum(engine["unfinished_tokens"] for engine in own)
    used = None
    if node.get("num_slots"):
        used = 1 - node["free_slots"] / node["num_slots"]
    return {
        "node": node["node"],
        "role": node["role"],
        "state": node["state"],
        "host": node["host"],
        "engines": amount(len(own), "engine"),
        "work": f"{amount(unfinished, 'request')}, {count(tokens)} tokens" if unfinished else "no requests",
        "buffer_share": used,
        "buffer": "" if used is None else f"buffer {used * 100:.0f} % full",
        "failures": node.get("load_failures", 0),
        "lanes": [lane for lane in lanes if lane["node"] == node["node"]],
    }


def _counters(scheduler: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = (("num_waiting", "waiting"), ("num_bound", "under way"), ("num_decisions", "placed"))
    return [{"key": key, "label": label, "value": count(scheduler[key])} for key, label in rows]


def _by_path(num_by_path: Mapping[str, int]) -> list[dict[str, Any]]:
    """Hits read by each side; a share of 0 while none has read."""
    total = sum(num_by_path.values())
    return [
        {"path": path, "label": label, "value": count(num), "share": num / total if total else 0.0}
        for path, label in _PATH_WORDS.items()
        for num in (num_by_path.get(path, 0),)
    ]


def _pool(lanes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The storage NICs of the whole cluster as one: how much of what they could read is read now."""
    reading = [lane for lane in lanes if lane["kind"] == "snic" and lane["way"] == "in"]
    now, rates = sum(lane["bytes_per_s"] for lane in reading), [lane["rate_bytes_per_s"] for lane in reading]
    known = bool(rates) and all(rates)
    share = min(1.0, now / sum(rates)) if known else None
    return {
        "share": share,
        "percent": "not known" if share is None else f"{share * 100:.0f} %",
        "rate": _of_rate(now, sum(rates)) if known else _per_s(now),
        "num": len(reading),
        "queue": format_bytes(sum(lane["queued_bytes"] for lane in reading)),
    }


def _network(lanes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The compute network: what all nodes send over it."""
    sent = sum(lane["bytes_per_s"] for lane in lanes if lane["kind"] == "cnic" and lane["way"] == "out")
    return {"rate": _per_s(sent)}


def _storage(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": node["name"],
        "blocks": f"{amount(node['num_blocks'], 'block')}",
        "used": f"{format_bytes(node['used_bytes'])} of {format_bytes(node['capacity_bytes'])}",
        "share": node["used_bytes"] / node["capacity_bytes"] if node["capacity_bytes"] else 0.0,
    }


def decision_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A decision in the page's words. Args: record: see ``Decision``, with ``hit_tokens`` of its request, or None."""
    hit = record["hit_tokens"]
    return {
        "seq": record["seq"],
        "request": record["request_id"],
        "path": record["read_path"],
        "side": _PATH_WORDS[record["read_path"]] if hit else "no hit",
        "reason": _REASONS.get(record["reason"], record["reason"]),
        "prefill": record["prefill_engine"],
        "decode": record["decode_engine"],
        "hit_tokens": hit,
        "hit": "" if hit is None else f"{count(hit)} tokens",
    }
