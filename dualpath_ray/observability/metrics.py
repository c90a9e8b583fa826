"""The catalogue of metrics that a running system exports: names, units, labels and meaning, as data. Pure.

Ray puts ``ray_`` before each name and adds labels of its own (``SessionName``, ``NodeAddress``, ``WorkerId``, ...).
Every label of ours has few values: names of systems, nodes and engines, or words of the closed sets below.
"""

from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from dualpath_ray.base.types import ReadPath, TrafficClass

RAY_PREFIX = "ray_"

# Why a side was chosen to read a hit. A policy's own words hold numbers, and go to the decision log alone.
PATH_REASONS = (
    "shorter_queue",
    "fewer_bytes_read",
    "pe_cannot_read",
    "de_cannot_read",
    "neither_can_read",
    "prefill_only",
    "round_robin",
    "no_hit",
    "other",
)
_ONE_SIDE = {
    "pe_cannot_read": ReadPath.DE,
    "de_cannot_read": ReadPath.PE,
    "neither_can_read": ReadPath.PE,
    "prefill_only": ReadPath.PE,
    "no_hit": ReadPath.PE,
}
# Each pair of side and reason that there can be: they are exported from the start, at zero.
PATH_CHOICES = tuple(
    (path, reason) for path, reason in product(ReadPath, PATH_REASONS) if _ONE_SIDE.get(reason, path) is path
)
# Why a block that was a hit could not be used.
LOAD_FAILURE_CAUSES = ("corrupt", "missing", "read_error", "read_unended", "not_written")
RECOMPUTE_CAUSES = (*LOAD_FAILURE_CAUSES, "no_room")  # the last: lost slots leave the buffer smaller than the hit
# What waiting requests wait for.
WAIT_CAUSES = ("groups", "prefill", "decode_room", "turn")
FINISH_REASONS = ("stop", "length", "cancelled", "failed")
# Classes that a NIC's direction carries; others appear when they come.
USUAL_CLASSES: dict[tuple[str, str], tuple[TrafficClass, ...]] = {
    ("snic", "in"): (TrafficClass.KV_CACHE, TrafficClass.KV_URGENT),
    ("snic", "out"): (TrafficClass.WRITE_BACK,),
    ("cnic", "in"): (TrafficClass.MODEL_EXECUTION, TrafficClass.KV_CACHE, TrafficClass.KV_URGENT),
    ("cnic", "out"): (TrafficClass.MODEL_EXECUTION, TrafficClass.KV_CACHE, TrafficClass.KV_URGENT),
}


class Kind(StrEnum):
    """Prometheus' types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. ``section`` is its heading in docs/metrics.md; ``boundaries`` are a histogram's, in its unit."""

    section: str
    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    boundaries: tuple[float, ...] = ()

    @property
    def exported_name(self) -> str:
        """As Prometheus knows it; a histogram's series end in ``_bucket``, ``_sum`` and ``_count``."""
        return RAY_PREFIX + self.name

    @property
    def series(self) -> tuple[str, ...]:
        """Names that a query may use."""
        name = self.exported_name
        return tuple(name + end for end in ("_bucket", "_sum", "_count")) if self.kind is Kind.HISTOGRAM else (name,)


_NODE = ("system", "node", "role")
_NIC = (*_NODE, "nic", "direction")
_ENGINE = (*_NODE, "engine")
_STORE = ("system", "node")
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_TTFT_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 60.0, 300.0)
_TOKEN_S = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)
_JCT_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0)
_STORE_S = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0)


def _nics() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, meaning: str, *more: str) -> MetricSpec:
        return MetricSpec("NICs", f"dualpath_nic_{name}", kind, unit, (*_NIC, *more), meaning)

    return [
        spec("bytes_total", _C, "bytes", "Carried, by traffic class and the lane of that class", "class", "lane"),
        spec("queued_bytes", _G, "bytes", "Submitted and not through yet, by class and lane", "class", "lane"),
        spec("busy_seconds_total", _C, "seconds", "Time that the direction was busy; its rate is the utilisation"),
        spec(
            "utilisation_ratio",
            _G,
            "ratio",
            "Busy share of the time since the export before; absent where no rate is known",
        ),
        spec("rate_bytes_per_second", _G, "bytes/s", "Nominal rate: emulated, or the link's; absent where unknown"),
        spec("transfers_total", _C, "transfers", "Transfers that are through"),
        spec("promoted_total", _C, "transfers", "Transfers that went on in the lane of urgent KV"),
    ]


def _paths() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, labels: tuple[str, ...], meaning: str) -> MetricSpec:
        return MetricSpec("Read paths and hits", f"dualpath_{name}", kind, unit, labels, meaning)

    chosen = ("system", "path", "reason")
    return [
        spec("path_requests_total", _C, "requests", chosen, "Decisions, by the side that reads and why it was chosen"),
        spec("path_tokens_total", _C, "tokens", chosen, "Hit tokens of these decisions"),
        spec("prompt_tokens_total", _C, "tokens", ("system", "kind"), "Prompt tokens decided on; kind is hit or miss"),
        spec(
            "recomputed_tokens_total",
            _C,
            "tokens",
            (*_NODE, "cause"),
            "Hits that were lost on the way and computed again, by what failed first",
        ),
        spec("load_failures_total", _C, "blocks", (*_NODE, "cause"), "Blocks that could not be loaded"),
        spec("shared_blocks_total", _C, "blocks", _NODE, "Blocks that a request found already read for another one"),
        spec("read_queue_tokens", _G, "tokens", _NODE, "Asked for from storage and not here yet (read_q)"),
        spec("node_can_read", _G, "0 or 1", _NODE, "1 when this node's way to the store works, else 0"),
        spec(
            "pool_balance_ratio",
            _G,
            "ratio",
            ("system",),
            "Bytes that SNICs read since the export before, max over mean of the nodes that may read; 1 is even",
        ),
    ]


def _scheduler() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, meaning: str, *labels: str) -> MetricSpec:
        return MetricSpec("Scheduler", f"dualpath_scheduler_{name}", kind, unit, ("system", *labels), meaning)

    return [
        spec("waiting_requests", _G, "requests", "The queue, by what its requests wait for", "cause"),
        spec("bound_requests", _G, "requests", "Decided on and not finished"),
        spec("decisions_total", _C, "decisions", "Decisions taken"),
        spec("groups", _G, "groups", "Groups of engines that report, by role", "role"),
        spec("awaited_groups", _G, "groups", "Groups that have not reported yet: nothing is decided before they do"),
        spec("dual_path", _G, "0 or 1", "1 when either side may read, 0 when the policy is prefill_only"),
    ]


def _engines() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, meaning: str) -> MetricSpec:
        return MetricSpec("Engines", f"dualpath_engine_{name}", kind, unit, _ENGINE, meaning)

    return [
        spec("batches_total", _C, "batches", "Forward batches of a prefill engine, steps of a decode engine"),
        spec(
            "batch_requests_total", _C, "requests", "Sequences in these batches, summed: over batches, their mean size"
        ),
        spec("batch_tokens_total", _C, "tokens", "Tokens computed in these batches"),
        spec("compute_seconds_total", _C, "seconds", "Time in these batches"),
        spec("stall_seconds_total", _C, "seconds", "Time in which a prefill batch waited for KV"),
        spec(
            "quota_ratio",
            _G,
            "ratio",
            "Predicted attention time of the batches since the export before, over the compute quota; prefill engines",
        ),
        spec("running_requests", _G, "requests", "Requests that the engine has"),
        spec("kv_used_tokens", _G, "tokens", "KV that a decode engine holds in HBM (or its DRAM on a CPU)"),
        spec("kv_capacity_tokens", _G, "tokens", "KV that a decode engine can hold"),
        spec("layer_pairs_total", _C, "pairs", "Pairs of layers of prefill batches that loaded KV"),
        spec("overlapped_pairs_total", _C, "pairs", "Those of which one moved while the other computed"),
    ]


def _buffers() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, meaning: str, *more: str) -> MetricSpec:
        return MetricSpec("Buffers and write-back", f"dualpath_{name}", kind, unit, (*_NODE, *more), meaning)

    return [
        spec(
            "buffer_slots",
            _G,
            "slots",
            "Slots of the PE or DE buffer, by state; lost ones are never used again",
            "state",
        ),
        spec("node_open_requests", _G, "requests", "Requests that hold or wait for slots of this node"),
        spec("write_back_blocks", _G, "blocks", "In the write-back queue"),
        spec("write_back_limit_blocks", _G, "blocks", "That the queue takes of decoding requests"),
        spec("write_back_waiting_blocks", _G, "blocks", "Full blocks that wait for a place in the queue"),
        spec("write_back_bytes_total", _C, "bytes", "Written to the store"),
        spec("write_failures_total", _C, "blocks", "Blocks that were not stored: refused, or their write failed"),
    ]


def _storage() -> list[MetricSpec]:
    def spec(name: str, kind: Kind, unit: str, meaning: str, *more: str) -> MetricSpec:
        return MetricSpec("Storage", f"dualpath_store_{name}", kind, unit, (*_STORE, *more), meaning)

    return [
        MetricSpec(
            "Storage",
            "dualpath_storage_latency_seconds",
            _H,
            "seconds",
            (*_NODE, "operation"),
            "Of one block in the store's own call, verification included and the wait for the NIC not; of very many "
            "between two exports only the last 512 are observed",
            _STORE_S,
        ),
        spec("blocks", _G, "blocks", "Blocks of this shard"),
        spec("pinned_blocks", _G, "blocks", "Blocks that running requests keep from eviction"),
        spec("used_bytes", _G, "bytes", "Of these blocks"),
        spec("capacity_bytes", _G, "bytes", "Blocks are evicted beyond this"),
        spec("lookup_blocks_total", _C, "blocks", "Looked up; result is hit or miss", "result"),
        spec("committed_blocks_total", _C, "blocks", "Written and whole"),
        spec("evicted_blocks_total", _C, "blocks", "Evicted for room"),
        spec("refused_blocks_total", _C, "blocks", "Refused for want of room"),
        spec("corrupt_blocks_total", _C, "blocks", "Found corrupt or missing, and forgotten"),
    ]


def _clients() -> list[MetricSpec]:
    def spec(name: str, unit: str, meaning: str, boundaries: tuple[float, ...]) -> MetricSpec:
        return MetricSpec(
            "Requests, as clients see them", f"dualpath_{name}", _H, unit, ("system",), meaning, boundaries
        )

    return [
        spec("ttft_seconds", "seconds", "Submit to first token", _TTFT_S),
        spec("ttst_seconds", "seconds", "First token to second", _TOKEN_S),
        spec("tpot_seconds", "seconds", "Mean time of a request's tokens after the first", _TOKEN_S),
        spec(
            "jct_seconds",
            "seconds",
            "Of a trajectory: first submit to last token, observed when its client ends it (end_trajectory; a rollout does)",
            _JCT_S,
        ),
        MetricSpec(
            "Requests, as clients see them",
            "dualpath_finished_requests_total",
            _C,
            "requests",
            ("system", "reason"),
            "Requests that have ended, by reason",
        ),
    ]


CATALOGUE: tuple[MetricSpec, ...] = (
    *_clients(),
    *_paths(),
    *_nics(),
    *_scheduler(),
    *_engines(),
    *_buffers(),
    *_storage(),
    MetricSpec(
        "Processes",
        "dualpath_actor_cpu_seconds_total",
        _C,
        "seconds",
        ("system", "actor", "node"),
        "CPU time of an actor's process; actor is scheduler, traffic_manager, prefill_engine, decode_engine or storage_node",
    ),
)
BY_NAME = {spec.name: spec for spec in CATALOGUE}
