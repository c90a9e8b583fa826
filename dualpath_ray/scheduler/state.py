"""What the scheduler knows: requests, loads as groups report them, limits, decisions (section 6).

Nothing here ever changes; the paper's symbol stands beside each name. Tokens stand for GPU, disk and network load
alike. What is made anew for every decision is a named tuple: a frozen dataclass takes three times as long.
"""

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dualpath_ray.base.types import ReadPath, Role

if TYPE_CHECKING:  # the history is made of the loads below
    from dualpath_ray.scheduler.history import Moment
    from dualpath_ray.scheduler.sharing import SharedOut


RequestFacts = tuple[str, int, str, int, int, int, int, int]  # the fields of a Request but its payload


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
    prompt_copies: int = 1  # of its KV in a decode engine: samples share one on a CPU, each has its own on a GPU
    payload: object = field(default=None, compare=False)  # what the engines need and the scheduler does not look at

    @property
    def total_tokens(self) -> int:
        """len(r) at a DE: what it takes of HBM there. A PE computes ``prompt_tokens`` of it."""
        return self.prompt_copies * self.prompt_tokens + self.num_samples * self.max_new_tokens

    def __reduce__(self) -> tuple[Any, ...]:
        """As a call with its fields: what a dataclass with slots does otherwise looks them up one by one."""
        return Request, (*self.without_payload(), self.payload)

    def without_payload(self) -> RequestFacts:
        """For the log, which holds many requests and must not hold their tokens: ``Request(*facts)`` is the same again.

        A tuple of plain values is nothing that Python's cycle collector would have to look through.
        """
        return (
            self.request_id,
            self.attempt,
            self.trajectory_id,
            self.prompt_tokens,
            self.hit_tokens,
            self.max_new_tokens,
            self.num_samples,
            self.prompt_copies,
        )


class PrefillLoad(NamedTuple):
    """Load of one prefill engine."""

    engine_id: str
    num_unfinished: int  # seq_e
    unfinished_tokens: int  # tok_e


class DecodeLoad(NamedTuple):
    """Load of one decode engine."""

    engine_id: str
    num_unfinished: int  # seq_e
    unfinished_tokens: int  # tok_e
    free_hbm_tokens: int


EngineLoad = PrefillLoad | DecodeLoad


class NicLoad(NamedTuple):
    """What one NIC did of late."""

    name: str
    bytes_per_s: float
    utilisation_ratio: float


class NodeLoad(NamedTuple):
    """Load of a node: its storage NIC and its DRAM buffer."""

    node_id: str
    read_queue_tokens: int  # read_q
    read_bytes: int  # in total so far
    can_read: bool  # whether its storage NIC works
    free_buffer_tokens: int  # of the PE or DE buffer
    nics: tuple[NicLoad, ...] = ()


class GroupView(NamedTuple):
    """Loads of a group at one moment."""

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

    def __reduce__(self) -> tuple[Any, ...]:
        """One string of bytes: see ``PackedList``."""
        fields = (self.group_id, self.role, self.node, self.engines, self.seen, self.finished, self.number)
        return _unpack_report, (pickle.dumps(fields, pickle.HIGHEST_PROTOCOL),)


def _unpack_report(data: bytes) -> GroupReport:
    return GroupReport(*pickle.loads(data))


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


class DecisionInputs(NamedTuple):
    """All that a decision was made on; ``decision_log.py`` writes it in plain JSON types and decides again from that."""

    request_facts: RequestFacts
    shared_out: "SharedOut"  # on what the decode group was chosen
    fitting_tokens: int  # of the requests R that fit the decode group
    loads: "Moment"
    limits: FetchLimits
    policy: str
    turn: int

    @property
    def request(self) -> Request:
        """Without its payload."""
        return Request(*self.request_facts)


class Decision(NamedTuple):
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

    def without_inputs(self) -> "Decision":
        """The same for those who carry it out."""
        return Decision(*self[:-1])
