"""What a run leaves behind: one row a turn, samples of every NIC, counters. Reports and summaries need nothing else.

Times are wall-clock seconds since the epoch unless a name says otherwise; durations end in ``_s`` too and say so here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.base.types import Role, node_name


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn: what it needed, where it was read and why, and when each stage was over."""

    trajectory_id: str
    turn: int
    request_id: str
    read_path: str  # pe or de
    reason: str  # why that side
    prefill_engine: str
    decode_engine: str
    prompt_tokens: int
    append_tokens: int
    hit_tokens: int  # in storage when the turn was submitted
    miss_tokens: int  # the rest of the prompt
    loaded_tokens: int  # of the hit, read and verified
    recomputed_tokens: int  # hit but lost on the way: computed again
    generated_tokens: int
    num_chunks: int  # forward batches that its prefill took
    submit_s: float
    assigned_s: float  # its prefill engine has got it: the scheduler had decided
    source_ready_s: float  # the hit is in a buffer, verified
    prefill_start_s: float
    prefill_end_s: float  # the first token is there
    prompt_complete_s: float  # all KV of the prompt is in the DE buffer
    loaded_s: float  # ... and in the decode engine's HBM
    finished_s: float
    read_queued_s: float  # duration: waiting for buffer slots
    read_s: float  # duration: from the first block asked for to the last one verified
    ttft_s: float  # duration: submit to first token
    ttst_s: float  # duration: first token to second; 0 when there is none
    tpot_s: float  # duration: mean time of each token after the first; 0 when there is none
    snic_read_bytes: int  # sealed blocks read for it
    cnic_in_bytes: int  # of the prefill node's CNIC
    cnic_out_bytes: int
    snic_write_bytes: int  # sealed blocks written for it
    h2d_bytes: int  # into prefill and decode engine
    d2h_bytes: int  # out of them


@dataclass(frozen=True, slots=True)
class NicSample:
    """State of one direction of a NIC (``p0/snic/in``) at a moment; bytes and busy time count from the run's start."""

    time_s: float
    nic: str
    moved_bytes: float
    busy_s: float
    queued_bytes: int


@dataclass(slots=True)
class RunRecord:
    """One run of a workload on one system."""

    mode: str  # the name it is compared under, e.g. scheduled, prefill_only, oracle, basic
    read_path: str
    layerwise: bool
    quota: bool
    oracle: bool
    prefill_nodes: int
    decode_nodes: int
    started_s: float  # first submit
    ended_s: float  # last token
    turns: Sequence[TurnRecord] = field(default_factory=list)
    samples: list[NicSample] = field(default_factory=list)
    nic_rates_bytes_per_s: dict[str, float | None] = field(default_factory=dict)  # by direction; None: not known
    nic_devices: dict[str, str] = field(default_factory=dict)  # by direction, of those that a known device carries
    snic_read_bytes: dict[str, int] = field(default_factory=dict)  # by node
    snic_write_bytes: dict[str, int] = field(default_factory=dict)
    cnic_bytes: dict[str, dict[str, int]] = field(default_factory=dict)  # node -> {"in": ..., "out": ...}
    class_bytes: dict[str, dict[str, int]] = field(default_factory=dict)  # NIC's direction -> traffic class -> bytes
    read_spans: dict[str, list[tuple[float, float, int]]] = field(default_factory=dict)  # node -> (asked, done, bytes)
    load_failures: int = 0
    cpu_s: float = 0.0  # of all actors, during the run
    memory_peak_bytes: int | None = None  # all processes and /dev/shm; None on a cluster that is not our own
    generated: dict[str, list[list[int]]] = field(default_factory=dict)  # trajectory -> tokens generated in each turn
    contexts: dict[str, list[int]] = field(default_factory=dict)  # trajectory -> final context, all tokens
    generated_spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # trajectory -> (start, stop) in it
    engines: dict[str, Any] = field(default_factory=dict)  # counters of every engine at the end
    profile: dict[str, float] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)  # of the scheduler, in order, with the run's mode
    # Of a run that was interrupted and resumed; what NICs and engines count is then of the last part alone.
    earlier_s: float = 0.0  # that the parts before the last took, each from its first submit to its last turn
    num_parts: int = 1

    @property
    def jct_s(self) -> float:
        """Job completion time: first submit to last token, without the time between the parts of a run."""
        return self.earlier_s + self.ended_s - self.started_s

    @property
    def prefill_names(self) -> list[str]:
        """Names of the prefill nodes, ``p0`` first."""
        return [node_name(Role.PREFILL, i) for i in range(self.prefill_nodes)]

    @property
    def decode_names(self) -> list[str]:
        """Names of the decode nodes, ``d0`` first."""
        return [node_name(Role.DECODE, i) for i in range(self.decode_nodes)]

    @property
    def reading_names(self) -> list[str]:
        """Nodes whose storage NIC may read in this run: on the single path only the prefill nodes (section 3)."""
        if self.read_path == "prefill_only":
            return self.prefill_names
        return self.prefill_names + self.decode_names


@dataclass(frozen=True, slots=True)
class TokenCheck:
    """Generated tokens of a run against one plain forward of the model over each final context (engine/verify.py)."""

    num_tokens_compared: int
    num_near_ties: int  # not the argmax, but within the tolerance of it
    num_wrong: int
    most_near_ties_ratio: float = 0.005  # of the tokens compared
    # Of those compared, by the plain model alone. None: KV is not rounded.
    num_changed_by_rounding: int | None = None

    @property
    def identical(self) -> bool:
        """Every token is the model's own, but for counted near ties."""
        return self.num_wrong == 0 and self.num_near_ties <= self.most_near_ties_ratio * max(
            1, self.num_tokens_compared
        )


@dataclass(slots=True)
class Comparison:
    """Several runs of one workload, each on an empty store."""

    command: str
    runs: list[RunRecord]
    checks: list[TokenCheck] = field(default_factory=list)  # one a run
    config: dict[str, Any] = field(default_factory=dict)  # effective
    versions: dict[str, str] = field(default_factory=dict)
    workload: dict[str, Any] = field(default_factory=dict)  # its statistics
