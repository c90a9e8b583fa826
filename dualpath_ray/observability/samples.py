"""From what an actor's ``status`` says to samples of the catalogue's metrics. Pure.

Counters stand in a status as totals since the actor started; ``Increments`` turns them into what Ray's counters take.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualpath_ray.observability.metrics import (
    BY_NAME,
    LOAD_FAILURE_CAUSES,
    PATH_CHOICES,
    RECOMPUTE_CAUSES,
    USUAL_CLASSES,
    Kind,
)

Labels = Mapping[str, str]
Status = Mapping[str, Any]


class Sample(NamedTuple):
    """One value of a metric: a total, a present value, or one observation of a histogram."""

    name: str
    value: float
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """A status, and when it was taken: seconds of any one clock."""

    at_s: float
    status: Status


class Increments:
    """What counters have grown by since the call before. A total that fell starts anew: it is another process' now."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def of(self, sample: Sample) -> float | None:
        """None where there is nothing to add; a counter's first total is given even when it is zero."""
        key = sample.name, tuple(sorted(sample.labels.items()))
        last = self._last.get(key)
        self._last[key] = sample.value
        if last is None or sample.value < last:
            return sample.value
        grown = sample.value - last
        return grown or None


SampleFunction = Callable[[Reading, Reading | None, Labels], Iterator[Sample]]


def node_samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    """Of a traffic manager. Args: labels: system, node and role."""
    status = now.status
    for name, nic in status["nics"].items():
        yield from _nic_samples(name, nic, now, before, labels)
    for metric, key in (
        ("dualpath_read_queue_tokens", "read_queue_tokens"),
        ("dualpath_node_can_read", "can_read"),
        ("dualpath_node_open_requests", "open_requests"),
        ("dualpath_shared_blocks_total", "shared_blocks"),
        ("dualpath_write_back_blocks", "writing_blocks"),
        ("dualpath_write_back_limit_blocks", "write_back_limit_blocks"),
        ("dualpath_write_back_waiting_blocks", "write_back_waiting_blocks"),
        ("dualpath_write_back_bytes_total", "written_bytes"),
        ("dualpath_write_failures_total", "write_failures"),
    ):
        yield Sample(metric, float(status[key]), dict(labels))
    for metric, key, causes in (
        ("dualpath_load_failures_total", "load_failures_by_cause", LOAD_FAILURE_CAUSES),
        ("dualpath_recomputed_tokens_total", "recomputed_tokens", RECOMPUTE_CAUSES),
    ):
        for cause in causes:
            yield Sample(metric, status[key].get(cause, 0), {**labels, "cause": cause})
    slots = {"free": status["free_slots"], "lost": status["lost_slots"]}
    slots["used"] = status["num_slots"] - sum(slots.values())
    for state, count in slots.items():
        yield Sample("dualpath_buffer_slots", count, {**labels, "state": state})
    yield _cpu(status, labels, "traffic_manager", labels["node"])


def _nic_samples(name: str, nic: Status, now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    _, which, direction = name.split("/")
    here = {**labels, "nic": which, "direction": direction}
    lanes: Mapping[str, int] = nic["lanes"]
    usual = USUAL_CLASSES[which.rstrip("0123456789"), direction]
    moved, queued = nic["bytes_by_class"], nic["queued_by_class"]
    for traffic_class in dict.fromkeys([*map(str, usual), *map(str, moved), *map(str, queued)]):
        lane = lanes.get(traffic_class)
        in_lane = {**here, "class": traffic_class, "lane": "" if lane is None else str(lane)}
        yield Sample("dualpath_nic_bytes_total", moved.get(traffic_class, 0), in_lane)
        yield Sample("dualpath_nic_queued_bytes", queued.get(traffic_class, 0), in_lane)
    yield Sample("dualpath_nic_busy_seconds_total", nic["busy_s"], here)
    yield Sample("dualpath_nic_transfers_total", nic["transfers"], here)
    yield Sample("dualpath_nic_promoted_total", nic["promoted"], here)
    if nic["rate_bytes_per_s"]:
        yield Sample("dualpath_nic_rate_bytes_per_second", nic["rate_bytes_per_s"], here)
        if (busy := busy_ratio(name, now, before)) is not None:
            yield Sample("dualpath_nic_utilisation_ratio", busy, here)


def busy_ratio(nic: str, now: Reading, before: Reading | None) -> float | None:
    """Busy share of the time between two readings; None where its rate is not known, or no time has passed."""
    this = now.status["nics"][nic]
    if before is None or now.at_s <= before.at_s or not this["rate_bytes_per_s"]:
        return None
    busy = this["busy_s"] - before.status["nics"][nic]["busy_s"]
    return min(1.0, max(0.0, busy / (now.at_s - before.at_s)))


def scheduler_samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    """Of the scheduler. Args: labels: system."""
    status = now.status
    counts = {(path, reason): (requests, tokens) for path, reason, requests, tokens in status["path_counts"]}
    for path, reason in dict.fromkeys([*PATH_CHOICES, *counts]):
        requests, tokens = counts.get((path, reason), (0, 0))
        chosen = {**labels, "path": str(path), "reason": reason}
        yield Sample("dualpath_path_requests_total", requests, chosen)
        yield Sample("dualpath_path_tokens_total", tokens, chosen)
    for kind in ("hit", "miss"):
        yield Sample("dualpath_prompt_tokens_total", status[f"{kind}_tokens"], {**labels, "kind": kind})
    for cause, count in waiting_by_cause(status).items():
        yield Sample("dualpath_scheduler_waiting_requests", count, {**labels, "cause": cause})
    yield Sample("dualpath_scheduler_bound_requests", status["num_bound"], dict(labels))
    yield Sample("dualpath_scheduler_decisions_total", status["num_decisions"], dict(labels))
    yield Sample("dualpath_scheduler_awaited_groups", len(status["awaited_groups"]), dict(labels))
    yield Sample("dualpath_scheduler_dual_path", float(status["policy"] != "prefill_only"), dict(labels))
    roles = [group["role"] for group in status["groups"].values()]
    for role in ("prefill", "decode"):
        yield Sample("dualpath_scheduler_groups", roles.count(role), {**labels, "role": role})
    yield Sample("dualpath_pool_balance_ratio", pool_balance(status, before.status if before else None), dict(labels))
    yield _cpu(status, labels, "scheduler", "")


def waiting_by_cause(status: Status) -> dict[str, int]:
    """Waiting requests of a scheduler's status, by what they wait for: ``WAIT_CAUSES``."""
    waiting = status["num_waiting"]
    out = {"groups": 0, "prefill": 0, "decode_room": 0, "turn": 0}
    if status["awaited_groups"] or not status["groups"]:
        out["groups"] = waiting
    elif status["waits_for_prefill"]:
        out["prefill"] = waiting
    else:
        blocked = sum(g["num_queued"] for g in status["groups"].values() if g["waits_for_room"])
        out["decode_room"] = min(blocked, waiting)
        out["turn"] = waiting - out["decode_room"]
    return out


def pool_balance(status: Status, before: Status | None) -> float:
    """Max over mean of the bytes that storage NICs have read since ``before``, of the nodes that may read.

    1 is even, and what it is when nothing was read. On the single path only prefill nodes may read.
    """
    single = status["policy"] == "prefill_only"
    read = []
    for name, group in status["groups"].items():
        node = group["node"]
        if not node["can_read"] or (single and group["role"] != "prefill"):
            continue
        earlier = before["groups"].get(name) if before else None
        read.append(max(0, node["read_bytes"] - (earlier["node"]["read_bytes"] if earlier else 0)))
    return max(read) * len(read) / sum(read) if any(read) else 1.0


def prefill_samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    """Of a prefill engine. Args: labels: system, node, role and engine."""
    status = now.status
    yield from _engine_samples(status, labels, "prefill_engine", status["computed_tokens"], status["num_batches"])
    yield Sample("dualpath_engine_stall_seconds_total", status["stall_s"], dict(labels))
    yield Sample("dualpath_engine_layer_pairs_total", status["layer_pairs"], dict(labels))
    yield Sample("dualpath_engine_overlapped_pairs_total", status["overlapped_pairs"], dict(labels))
    if (used := quota_ratio(status, before.status if before else None)) is not None:
        yield Sample("dualpath_engine_quota_ratio", used, dict(labels))


def quota_ratio(status: Status, before: Status | None) -> float | None:
    """Predicted attention time of the batches since ``before`` over their quota; None without batches or without a quota."""
    batches = status["num_batches"] - (before["num_batches"] if before else 0)
    predicted_s = status["predicted_s"] - (before["predicted_s"] if before else 0.0)
    return predicted_s / (batches * status["quota_s"]) if batches > 0 and status["quota_s"] else None


def decode_samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    """Of a decode engine. Args: labels: system, node, role and engine."""
    status = now.status
    yield from _engine_samples(status, labels, "decode_engine", status["generated_tokens"], status["num_steps"])
    yield Sample("dualpath_engine_kv_used_tokens", status["kv_tokens"], dict(labels))
    yield Sample("dualpath_engine_kv_capacity_tokens", status["hbm_tokens"], dict(labels))


def _engine_samples(status: Status, labels: Labels, actor: str, tokens: int, batches: int) -> Iterator[Sample]:
    yield Sample("dualpath_engine_batches_total", batches, dict(labels))
    yield Sample("dualpath_engine_batch_requests_total", status["batch_requests"], dict(labels))
    yield Sample("dualpath_engine_batch_tokens_total", tokens, dict(labels))
    yield Sample("dualpath_engine_compute_seconds_total", status["compute_s"], dict(labels))
    yield Sample("dualpath_engine_running_requests", status["running_requests"], dict(labels))
    yield _cpu(status, labels, actor, labels["engine"])


def storage_samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    """Of a storage node. Args: labels: system and node."""
    status = now.status
    for metric, key in (
        ("blocks", "num_blocks"),
        ("pinned_blocks", "num_pinned"),
        ("used_bytes", "used_bytes"),
        ("capacity_bytes", "capacity_bytes"),
        ("committed_blocks_total", "committed_blocks"),
        ("evicted_blocks_total", "num_evicted"),
        ("refused_blocks_total", "refused_blocks"),
        ("corrupt_blocks_total", "corrupt_blocks"),
    ):
        yield Sample(f"dualpath_store_{metric}", status[key], dict(labels))
    hits = status["hit_blocks"]
    for result, count in (("hit", hits), ("miss", status["lookup_blocks"] - hits)):
        yield Sample("dualpath_store_lookup_blocks_total", count, {**labels, "result": result})
    yield _cpu(status, labels, "storage_node", labels["node"])


def _cpu(status: Status, labels: Labels, actor: str, node: str) -> Sample:
    of = {"system": labels["system"], "actor": actor, "node": node}
    return Sample("dualpath_actor_cpu_seconds_total", status["cpu_s"], of)


def additions(samples: Iterable[Sample], increments: Increments) -> Iterator[Sample]:
    """What is to be exported: gauges and observations as they are, counters as what they have grown by."""
    for sample in samples:
        if BY_NAME[sample.name].kind is Kind.COUNTER:
            grown = increments.of(sample)
            if grown is not None:
                yield sample._replace(value=grown)
        else:
            yield sample
