"""What the scheduler knows: requests, loads as groups report them, limits, decisions (section 6).

All frozen; the paper's symbol stands beside each name. Tokens stand for GPU, disk and network load alike.
"""

from dataclasses import dataclass, field

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.sharing import SharedOut


@dataclass(frozen=True, slots=True)
class Request:
    """One turn of one trajectory (or several samples of it) that waits for a PE, a DE and a read path."""

    request_id: str
    attempt: int  # starts anew after a failure; what an earlier one says is ignored
    trajectory_id: str
    prompt_tokens: int
    hit_tokens: int  # of the prompt; to be read from storage
    max_new_tokens: int
    num_samples: int = 1
    payload: object = field(default=None, compare=False)  # what the engines need and the scheduler does not look at

    @property
    def total_tokens(self) -> int:
        """len(r) at a DE: what it takes of HBM there; samples share a prompt. A PE computes ``prompt_tokens`` of it."""
        return self.prompt_tokens + self.num_samples * self.max_new_tokens


@dataclass(frozen=True, slots=True)
class PrefillLoad:
    """Load of one prefill engine."""

    engine_id: str
    num_unfinished: int  # seq_e
    unfinished_tokens: int  # tok_e


@dataclass(frozen=True, slots=True)
class DecodeLoad:
    """Load of one decode engine."""

    engine_id: str
    num_unfinished: int  # seq_e
    unfinished_tokens: int  # tok_e
    free_hbm_tokens: int


EngineLoad = PrefillLoad | DecodeLoad


@dataclass(frozen=True, slots=True)
class NicLoad:
    """What one NIC did of late."""

    name: str
    bytes_per_s: float
    utilisation_ratio: float


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """Load of a node: its storage NIC and its DRAM buffer."""

    node_id: str
    read_queue_tokens: int  # read_q
    read_bytes: int  # in total so far
    can_read: bool  # whether its storage NIC works
    free_buffer_tokens: int  # of the PE or DE buffer
    nics: tuple[NicLoad, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupView:
    """Loads of a group at one moment. It never changes, so that many decisions can share it."""

    group_id: str
    node: NodeLoad
    engines: tuple[EngineLoad, ...]


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What a group's leader tells at each fetch. A group is the engines of one node, all of one role."""

    group_id: str
    role: Role
    node: NodeLoad
    engines: tuple[EngineLoad, ...]
    seen: int  # sequence number of the last decision that this group had received and counts in these loads
    finished: tuple[str, ...] = ()  # requests finished since the last report
    number: int = 0  # counts up: two threads of a leader report, and a report may overtake another


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Constants of section 6."""

    short_read_queue_tokens: int  # alpha: tokens a node reads in 3 s
    max_unfinished_tokens: int  # beta: tokens a GPU processes in 5 s
    imbalance: float = 1.05  # of the threshold Z
    token_bytes: int = 1  # KV of one token over all layers; turns assigned reads into bytes where bytes break a tie
    block_tokens: int = 1  # a prompt takes whole blocks of a buffer

    def buffer_tokens(self, request: Request) -> int:
        """What a prompt takes of a DE buffer."""
        return -(-request.prompt_tokens // self.block_tokens) * self.block_tokens


@dataclass(frozen=True, slots=True)
class DecisionInputs:
    """All that a decision was made on: views that others share, so that keeping it costs next to nothing.

    ``decision_log.py`` writes it in plain JSON types and takes the decision again from that.
    """

    request: Request
    shared_out: SharedOut  # on what the decode group was chosen
    fitting_tokens: int  # of the requests R that fit the decode group
    decode: GroupView
    prefill: tuple[GroupView, ...]
    limits: FetchLimits
    policy: str
    turn: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a request goes, and why."""

    seq: int  # counts up from 1 without gaps
    request_id: str
    attempt: int
    decode_group: str
    decode_engine: str
    decode_node: str
    prefill_group: str
    prefill_engine: str
    prefill_node: str
    read_path: ReadPath
    reason: str  # of the read path, in words
    inputs: DecisionInputs | None = None  # None on the way to those who carry it out
