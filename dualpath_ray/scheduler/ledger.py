"""One group as the scheduler sees it: its last report, plus what was assigned to it since (section 6).

Without the second part, all that is decided between two reports would herd to the engine that looked idle in the first.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.sharing import SharedOut
from dualpath_ray.scheduler.state import (
    Decision,
    DecodeLoad,
    EngineLoad,
    FetchLimits,
    GroupReport,
    GroupView,
    NodeLoad,
    PrefillLoad,
    Request,
)


@dataclass(slots=True)
class Waiting:
    """A request that nothing is bound to yet."""

    arrival: int
    request: Request
    shared_out: SharedOut | None = None  # on what its decode group was chosen


class Group:
    """Loads of a group, ahead of its reports by the decisions that these do not count yet; and its private queue."""

    def __init__(self, report: GroupReport, limits: FetchLimits) -> None:
        self.group_id = report.group_id
        self.role = report.role
        self.queue: OrderedDict[str, Waiting] = OrderedDict()  # decode groups only; FIFO, by request id
        self.queued_tokens = 0
        self.blocked = False  # the head found no room in the loads as they are
        self._ahead: deque[tuple[Request, Decision]] = deque()
        self._view: GroupView | None = None
        self.accept(report, limits)

    def accept(self, report: GroupReport, limits: FetchLimits) -> None:
        """Take a new report in; decisions up to its ``seen``, and finished requests, are in its loads."""
        if self._ahead:
            finished = set(report.finished)
            self._ahead = deque(
                (request, decision)
                for request, decision in self._ahead
                if decision.seq > report.seen and request.request_id not in finished
            )
        self._view = None
        self.role = report.role
        self.node: NodeLoad = report.node
        self.loads: dict[str, EngineLoad] = {load.engine_id: load for load in report.engines}
        self.unfinished_tokens = sum(load.unfinished_tokens for load in report.engines)
        self.free_hbm_tokens = sum(load.free_hbm_tokens for load in report.engines if isinstance(load, DecodeLoad))
        for request, decision in self._ahead:
            self._count(request, decision, limits)
        self._fit_anew()

    def assign(self, request: Request, decision: Decision, limits: FetchLimits) -> None:
        """Count a decision that concerns this group, until a report does."""
        self._ahead.append((request, decision))
        self._count(request, decision, limits)

    def ahead(self, seen: int) -> list[tuple[Request, Decision]]:
        """The decisions after ``seen`` that no report has counted yet, in order."""
        return [pair for pair in self._ahead if pair[1].seq > seen]

    def view(self) -> GroupView:
        """The loads as they are now. Decisions share it while nothing changes."""
        if self._view is None:
            self._view = GroupView(self.group_id, self.node, tuple(self.loads.values()))
        return self._view

    def decode_loads(self) -> Collection[DecodeLoad]:
        """Loads of the engines of a decode group."""
        assert self.role is Role.DECODE
        return cast(Collection[DecodeLoad], self.loads.values())

    @property
    def total_tokens(self) -> int:
        """Total tok_e, with the private queue."""
        return self.unfinished_tokens + self.queued_tokens

    # the private queue -----------------------------------------------------------------------------------------------

    @property
    def head(self) -> Waiting:
        """The request that is next."""
        return next(iter(self.queue.values()))

    def enqueue(self, waiting: Waiting) -> None:
        """Append to the private queue, or replace an earlier attempt in its place."""
        tokens = waiting.request.total_tokens
        old = self.queue.get(waiting.request.request_id)
        self.queue[waiting.request.request_id] = waiting
        self.queued_tokens += tokens
        if old is not None:
            self.queued_tokens -= old.request.total_tokens
            self._fit_anew()
        elif self._fitting == len(self.queue) - 1 and self.fitting_tokens + tokens <= self.free_hbm_tokens:
            self._fitting += 1  # all before it fit, and so does it
            self.fitting_tokens += tokens

    def dequeue(self, request_id: str) -> Waiting:
        """Take a request out of the private queue."""
        waiting = self.queue.pop(request_id)
        self.queued_tokens -= waiting.request.total_tokens
        self._fit_anew()
        return waiting

    def bind_head(self, decision: Decision, limits: FetchLimits) -> None:
        """The head is assigned to an engine of this group: its tokens move from the queue to the loads."""
        _, waiting = self.queue.popitem(last=False)
        tokens = waiting.request.total_tokens
        self.queued_tokens -= tokens
        self.assign(waiting.request, decision, limits)
        if self._fitting:  # it was one of R, whose other requests fit what is left as they fitted before
            self._fitting -= 1
            self.fitting_tokens -= tokens
        else:  # one engine had room although the group, with an overfull one, had none
            self._fit_anew()

    def empty_queue(self) -> Iterable[Waiting]:
        """Take everything out of the private queue, in order."""
        everything = list(self.queue.values())
        self.queue.clear()
        self.queued_tokens = 0
        self._fit_anew()
        return everything

    def _fit_anew(self) -> None:
        """R: the head of the queue that would fit the group's free HBM without fragmentation (section 6)."""
        self._fitting = self.fitting_tokens = 0
        for waiting in self.queue.values():
            tokens = self.fitting_tokens + waiting.request.total_tokens
            if tokens > self.free_hbm_tokens:
                break
            self._fitting += 1
            self.fitting_tokens = tokens

    # counting --------------------------------------------------------------------------------------------------------

    def _count(self, request: Request, decision: Decision, limits: FetchLimits) -> None:
        self._view = None
        node, is_prefill = self.node, self.role is Role.PREFILL
        reads = request.hit_tokens if (decision.read_path is ReadPath.PE) is is_prefill else 0
        buffer = 0 if is_prefill else limits.buffer_tokens(request)
        self.node = NodeLoad(
            node.node_id,
            node.read_queue_tokens + reads,
            node.read_bytes + reads * limits.token_bytes,
            node.can_read,
            node.free_buffer_tokens - buffer,
            node.nics,
        )
        engine_id = decision.prefill_engine if is_prefill else decision.decode_engine
        load = self.loads.get(engine_id)
        if load is None:  # the engine has left the group since
            return
        added = request.prompt_tokens if is_prefill else request.total_tokens
        self.unfinished_tokens += added
        count, tokens = load.num_unfinished + 1, load.unfinished_tokens + added
        if isinstance(load, PrefillLoad):
            self.loads[engine_id] = PrefillLoad(engine_id, count, tokens)
        else:
            self.free_hbm_tokens -= added
            self.loads[engine_id] = DecodeLoad(engine_id, count, tokens, load.free_hbm_tokens - added)
