"""The highest rate of turns that each resource of a cluster allows, whatever the scheduler does: bounds without a run.

They say which splits cannot win, which resource binds, and at what load a simulation is worth while.
"""

from dataclasses import dataclass
from math import inf

from dualpath_ray.planning.links import NodeLinks, read_limit
from dualpath_ray.planning.work import TurnWork
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.traffic.hops import LinkKind

PE_COMPUTE, DE_COMPUTE, CORES, DE_HBM, STORAGE_SERVERS = (
    "PE compute",
    "DE compute",
    "cores",
    "DE HBM",
    "storage servers",
)
LINK_WORDS = {
    LinkKind.PE_SNIC_IN: "PE SNIC",
    LinkKind.PE_DRAM: "PE DRAM",
    LinkKind.PE_CNIC_IN: "PE CNIC in",
    LinkKind.PE_CNIC_OUT: "PE CNIC out",
    LinkKind.DE_SNIC_IN: "DE SNIC",
    LinkKind.DE_SNIC_OUT: "DE SNIC out",
    LinkKind.DE_DRAM: "DE DRAM",
    LinkKind.DE_CNIC_IN: "DE CNIC in",
    LinkKind.DE_CNIC_OUT: "DE CNIC out",
}
_UNLIMITED_BYTES_PER_S = 1e18  # a link that is not emulated
_SHARES = 64  # steps of the search for the best share of the PE read path


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Turns per second that a resource allows."""

    turns_per_s: float
    resource: str


def node_links(spec: ClusterSpec) -> NodeLinks | None:
    """The links of a simulated node; None when its storage NIC is not limited."""
    rates = spec.rates
    if rates.snic_in is None:
        return None
    return NodeLinks(
        gpus=spec.engines,
        cnic_bytes_per_s=rates.cnic or _UNLIMITED_BYTES_PER_S,
        snic_bytes_per_s=rates.snic_in,
        dram_bytes_per_s=rates.dram or _UNLIMITED_BYTES_PER_S,
    )


def rate_limits(spec: ClusterSpec, work: TurnWork, max_tpot_s: float | None = None) -> dict[str, float]:
    """Turns per second that each resource allows; the storage NICs' is under the name of the link that is full first.

    Args: max_tpot_s: mean TPOT that must be kept; None: batches of decode are limited by HBM alone.
    """
    read = storage_limit(spec, work)
    return {**compute_limits(spec, work, max_tpot_s), read.resource: read.turns_per_s}


def compute_limits(spec: ClusterSpec, work: TurnWork, max_tpot_s: float | None = None) -> dict[str, float]:
    """Of the engines alone; one limit where they share the cores of a machine."""
    prefill = prefill_s(spec, work)
    decode = decode_s(spec, work, max_tpot_s) if work.steps else 0.0
    if spec.cores:
        return {CORES: _per_s(spec.cores, prefill + decode)}
    return {
        PE_COMPUTE: _per_s(spec.prefill_nodes * spec.engines, prefill),
        DE_COMPUTE: _per_s(spec.decode_nodes * spec.engines, decode),
    }


def tightest(limits: dict[str, float]) -> RateLimit:
    """The resource that allows least."""
    name = min(limits, key=lambda resource: limits[resource])
    return RateLimit(limits[name], name)


def prefill_s(spec: ClusterSpec, work: TurnWork) -> float:
    """GPU seconds of a turn's prefill in the fullest batches that tokens and quota allow."""
    costs = spec.prefill_costs
    attention_s = work.attention_flops * costs.s_per_attention_flop
    batches = work.miss / spec.max_batch_tokens
    if spec.quota_s:
        batches = max(batches, attention_s / spec.model.num_layers / spec.quota_s)
    return costs.batch_s * batches + costs.request_s + costs.token_s * work.miss + attention_s


def decode_batch(spec: ClusterSpec, work: TurnWork, max_tpot_s: float | None) -> float:
    """Most sequences of a decode engine: what its HBM holds and, with a limit of TPOT, a step of that time reads."""
    fits = spec.hbm_tokens / (work.prompt + work.gen)
    if max_tpot_s is None:
        return fits
    costs = spec.decode_costs
    each_s = costs.sequence_s + costs.context_s * work.decode_context
    left_s = max(0.0, max_tpot_s - costs.step_s)
    return min(fits, left_s / each_s) if each_s else fits


def decode_s(spec: ClusterSpec, work: TurnWork, max_tpot_s: float | None) -> float:
    """GPU seconds of a turn's decode steps in the largest batch; infinite when not even one sequence keeps the limit."""
    batch = decode_batch(spec, work, max_tpot_s)
    if batch <= 0:
        return inf
    costs = spec.decode_costs
    return work.steps * (costs.step_s / batch + costs.sequence_s + costs.context_s * work.decode_context)


def storage_limit(spec: ClusterSpec, work: TurnWork) -> RateLimit:
    """Reads of hit KV: over the prefill side alone on the single path, else at the best share of either side."""
    hit_bytes = work.hit * spec.layout.token_bytes
    if not hit_bytes:
        return RateLimit(inf, LINK_WORDS[LinkKind.PE_SNIC_IN])
    limits = [RateLimit((spec.storage_bytes_per_s or inf) / hit_bytes, STORAGE_SERVERS)]
    links = node_links(spec)
    if links is not None:
        if not spec.rates.loopback:  # a copy engine moves what the table of hops sends through a CNIC
            free = _UNLIMITED_BYTES_PER_S
            links = NodeLinks(links.gpus, free, links.snic_bytes_per_s, free)
        shares = [1.0] if spec.read_path == "prefill_only" else [i / _SHARES for i in range(_SHARES + 1)]
        new_per_hit = work.miss / work.hit
        best = max(
            (read_limit(links, spec.prefill_nodes, spec.decode_nodes, share, new_per_hit) for share in shares),
            key=lambda limit: limit.read_bytes_per_s,
        )
        limits.append(RateLimit(best.read_bytes_per_s / hit_bytes, LINK_WORDS[best.link]))
    return min(limits, key=lambda limit: limit.turns_per_s)


def unloaded_s(spec: ClusterSpec, work: TurnWork) -> tuple[float, float]:
    """(TTFT, TPOT) of a turn that is alone on the cluster: no load makes them shorter."""
    costs, decode = spec.prefill_costs, spec.decode_costs
    compute_s = costs.batch_s + (costs.request_s + costs.token_s * work.miss) / spec.prefill_group
    compute_s += work.attention_flops * costs.s_per_attention_flop
    read_s = work.hit * spec.layout.token_bytes / spec.rates.snic_in if spec.rates.snic_in else 0.0
    tpot_s = decode.step_s + decode.sequence_s + decode.context_s * work.decode_context if work.steps else 0.0
    return spec.delays.submit_s + read_s + spec.delays.read_s + compute_s, tpot_s


def _per_s(capacity: float, seconds: float) -> float:
    return capacity / seconds if seconds else inf
