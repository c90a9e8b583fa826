"""Names, units and meaning of the numbers in ``summary.json``: the tables of report and terminal are made of these."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Unit(StrEnum):
    """What a number counts, and so how it is printed."""

    SECONDS = "s"
    BYTES = "bytes"
    TOKENS = "tokens"
    COUNT = "count"
    RATIO = "ratio"  # of a whole, 0 to 1: printed as a percentage
    TIMES = "times"  # of something else: printed with a multiplication sign
    TOKENS_PER_S = "tokens/s"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a run; a dot in the name leads into a nested object."""

    name: str
    unit: Unit
    label: str
    meaning: str

    def of(self, run: dict[str, Any]) -> Any:
        """The number in one element of the summary's ``runs``; None where it has none."""
        value: Any = run
        for part in self.name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value


RUN_METRICS: tuple[Metric, ...] = (
    Metric("jct_s", Unit.SECONDS, "Job completion time", "first submit to last token"),
    Metric("ttft_s.mean", Unit.SECONDS, "TTFT, mean", "submit to first token"),
    Metric("ttft_s.p50", Unit.SECONDS, "TTFT, p50", "submit to first token"),
    Metric("ttft_s.p99", Unit.SECONDS, "TTFT, p99", "submit to first token"),
    Metric("ttst_s.mean", Unit.SECONDS, "TTST, mean", "first token to second"),
    Metric("ttst_s.p50", Unit.SECONDS, "TTST, p50", "first token to second"),
    Metric("ttst_s.p99", Unit.SECONDS, "TTST, p99", "first token to second"),
    Metric("tpot_s.p50", Unit.SECONDS, "TPOT, p50", "mean time of a token after the first"),
    Metric("tpot_s.p99", Unit.SECONDS, "TPOT, p99", "mean time of a token after the first"),
    Metric("tokens_per_s", Unit.TOKENS_PER_S, "Generated tokens per second", "over the whole job"),
    Metric("num_trajectories", Unit.COUNT, "Trajectories", "each a chain of turns"),
    Metric("num_turns", Unit.COUNT, "Turns", "one request each"),
    Metric("prompt_tokens", Unit.TOKENS, "Prompt tokens", "context of every turn, summed"),
    Metric("generated_tokens", Unit.TOKENS, "Generated tokens", "by the model, all turns"),
    Metric("hit_tokens", Unit.TOKENS, "Hit tokens", "found in storage when the turn was submitted"),
    Metric("hit_ratio", Unit.RATIO, "Hit ratio", "hit tokens of prompt tokens"),
    Metric("recomputed_tokens", Unit.TOKENS, "Recomputed tokens", "hit, but lost on the way"),
    Metric("load_failures", Unit.COUNT, "Load failures", "block reads that failed or did not verify"),
    Metric("snic_max_over_mean_ratio", Unit.TIMES, "SNIC reads, max / mean", "of the nodes that may read; 1 is even"),
    Metric("snic_utilisation_ratio", Unit.RATIO, "SNIC pool utilisation", "of the NICs that may read, while loading"),
    Metric("loading_s", Unit.SECONDS, "Time loading", "at least one block read outstanding anywhere"),
    Metric(
        "overlapped_layer_pairs_ratio", Unit.RATIO, "Layers overlapped", "one is on its way while the last computes"
    ),
    Metric("prefill_stall_ratio", Unit.RATIO, "Prefill stalled on KV", "of the prefill engines' batch time"),
    Metric("cpu_s_per_turn", Unit.SECONDS, "CPU time per turn", "of all actors"),
    Metric("memory_peak_bytes", Unit.BYTES, "Memory, peak", "of all processes, and /dev/shm"),
)

NODE_METRICS: tuple[Metric, ...] = (
    Metric("snic_bytes", Unit.BYTES, "SNIC read", "storage to the node's buffer"),
    Metric("snic_write_bytes", Unit.BYTES, "SNIC written", "the node's buffer to storage"),
    Metric("snic_busy_while_queued_ratio", Unit.RATIO, "SNIC busy while reads wait", "of the time a read was open"),
)
