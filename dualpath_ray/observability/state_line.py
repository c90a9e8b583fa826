"""The line that an actor writes into its log now and then: what it is doing, short enough for a log page. Pure.

A line begins with who it is about, as in the Ray dashboard's actor table. Rates are means since the line before.
"""

from collections.abc import Callable, Sequence
from itertools import chain

from dualpath_ray.base.units import format_bytes, format_bytes_per_s
from dualpath_ray.observability.samples import Reading, busy_ratio, pool_balance, quota_ratio, waiting_by_cause

LineFunction = Callable[[Reading, Reading | None], Sequence[str]]


def line(who: str, parts: Sequence[str]) -> str:
    """One line. Args: who: the actor, as its ``repr`` says."""
    return f"{who}: {', '.join(parts)}"


def node_line(now: Reading, before: Reading | None) -> Sequence[str]:
    """Of a traffic manager: its NICs, buffer, queues."""
    status = now.status
    nics = (_nic(name, now, before) for name in status["nics"])
    lost = f", {status['lost_slots']} lost" if status["lost_slots"] else ""
    parts = [
        f"{status['free_slots']} of {status['num_slots']} slots free{lost}",
        f"{status['open_requests']} requests",
        f"read queue {status['read_queue_tokens']} tokens",
        f"write-back {status['writing_blocks']} blocks",
    ]
    if status["load_failures"]:
        parts.append(f"{status['load_failures']} blocks failed to load")
    if status["write_failures"]:
        parts.append(f"{status['write_failures']} blocks not stored ({status['last_write_error']})")
    if not status["can_read"]:
        parts.append("cannot read the store")
    return [*chain.from_iterable(nics), *parts]


def _nic(name: str, now: Reading, before: Reading | None) -> Sequence[str]:
    """One direction, or nothing when it never moved a byte."""
    nic = now.status["nics"][name]
    if not nic["moved_bytes"] and not nic["queued_bytes"]:
        return ()
    said = name.partition("/")[2].replace("/", " ")
    if before is not None and now.at_s > before.at_s:
        moved = nic["moved_bytes"] - before.status["nics"][name]["moved_bytes"]
        said += f" {format_bytes_per_s(max(0.0, moved) / (now.at_s - before.at_s))}"
        if (busy := busy_ratio(name, now, before)) is not None:
            said += f" ({busy:.0%} busy)"
    else:
        said += f" {format_bytes(nic['moved_bytes'])} so far"
    return (said + (f" with {format_bytes(nic['queued_bytes'])} waiting" if nic["queued_bytes"] else ""),)


def scheduler_line(now: Reading, before: Reading | None) -> Sequence[str]:
    """Of the scheduler: its queue and what it waits for, its decisions."""
    status = now.status
    causes = {
        "groups": "engines to report",
        "prefill": "a prefill engine",
        "decode_room": "room to decode",
        "turn": "their turn",
    }
    waits = [f"{count} for {causes[cause]}" for cause, count in waiting_by_cause(status).items() if count]
    paths = ", ".join(f"{path} {count}" for path, count in status["num_by_path"].items())
    return [
        f"policy {status['policy']}",
        f"{status['num_waiting']} wait" + (f" ({', '.join(waits)})" if waits else ""),
        f"{status['num_bound']} run",
        f"{_since('num_decisions', now, before)} decisions",
        f"hits read by {paths}",
        f"SNIC balance {pool_balance(status, before.status if before else None):.2f}",
    ]


def prefill_line(now: Reading, before: Reading | None) -> Sequence[str]:
    """Of a prefill engine."""
    used = quota_ratio(now.status, before.status if before else None)
    return [
        f"{now.status['running_requests']} requests",
        f"{_since('num_batches', now, before)} batches",
        f"{_since('computed_tokens', now, before)} tokens computed",
        *_share("compute_s", "computing", now, before),
        *_share("stall_s", "waiting for KV", now, before),
        *([f"compute quota {used:.0%} used"] if used is not None else []),
    ]


def decode_line(now: Reading, before: Reading | None) -> Sequence[str]:
    """Of a decode engine."""
    return [
        f"{now.status['running_requests']} requests",
        f"{_since('num_steps', now, before)} steps",
        f"{_since('generated_tokens', now, before)} tokens generated",
        *_share("compute_s", "computing", now, before),
        f"KV {now.status['kv_tokens']} of {now.status['hbm_tokens']} tokens",
    ]


def storage_line(now: Reading, before: Reading | None) -> Sequence[str]:
    """Of a storage node."""
    status = now.status
    return [
        f"{status['num_blocks']} of {status['capacity_blocks']} blocks ({format_bytes(status['used_bytes'])})",
        f"{status['num_pinned']} pinned",
        f"{status['num_writing']} being written",
        f"{_since('hit_blocks', now, before)} of {_since('lookup_blocks', now, before)} looked up were here",
        f"{status['num_evicted']} evicted",
        f"{status['corrupt_blocks']} corrupt",
    ]


def _since(key: str, now: Reading, before: Reading | None) -> int:
    return int(now.status[key] - (before.status[key] if before else 0))


def _share(key: str, doing: str, now: Reading, before: Reading | None) -> Sequence[str]:
    """Share of the time since the line before."""
    if before is None or now.at_s <= before.at_s:
        return ()
    share = (now.status[key] - before.status[key]) / (now.at_s - before.at_s)
    return (f"{max(0.0, share):.0%} {doing}",)
