"""One group as the scheduler sees it: its last report, plus what was assigned to it since (section 6).

Without the second part, all that is decided between two reports would herd to the engine that looked idle in the first.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.records import group_to_json
from dualpath_ray.scheduler.state import Decision, EngineLoad, FetchLimits, GroupReport, PrefillLoad, Request


@dataclass(slots=True)
class Waiting:
    """A request that nothing is bound to yet."""

    arrival: int
    request: Request
    group_tokens: dict[str, int]  # on which its decode group was chosen


class Group:
    """Loads of a group, ahead of its reports by the decisions that these do not count yet; and its private queue."""

    def __init__(self, report: GroupReport, limits: FetchLimits) -> None:
        self.group_id = report.group_id
        self.role = report.role
        self.queue: OrderedDict[str, Waiting] = OrderedDict()  # decode groups only; FIFO, by request id
        self.queued_tokens = 0
        self._ahead: deque[tuple[Request, Decision]] = deque()
        self._record: dict[str, object] | None = None
        self.accept(report, limits)

    def accept(self, report: GroupReport, limits: FetchLimits) -> None:
        """Take a new report in; decisions up to its ``seen``, and finished requests, are in its loads."""
        finished = set(report.finished)
        self._ahead = deque(
            (request, decision)
            for request, decision in self._ahead
            if decision.seq > report.seen and request.request_id not in finished
        )
        self._record = None
        self.role = report.role
        self.node = report.node
        self.loads: dict[str, EngineLoad] = {load.engine_id: load for load in report.engines}
        self.unfinished_tokens = sum(load.unfinished_tokens for load in report.engines)
        for request, decision in self._ahead:
            self._count(request, decision, limits)

    def assign(self, request: Request, decision: Decision, limits: FetchLimits) -> None:
        """Count a decision that concerns this group, until a report does."""
        self._ahead.append((request, decision))
        self._count(request, decision, limits)

    def ahead(self, seen: int) -> list[tuple[Request, Decision]]:
        """The decisions after ``seen`` that no report has counted yet, in order."""
        return [pair for pair in self._ahead if pair[1].seq > seen]

    def record(self) -> dict[str, object]:
        """The loads in JSON types, for the inputs of a decision. Decisions share it while nothing changes."""
        if self._record is None:
            self._record = group_to_json(self.group_id, self.node, self.loads.values())
        return self._record

    @property
    def total_tokens(self) -> int:
        """Total tok_e, with the private queue."""
        return self.unfinished_tokens + self.queued_tokens

    def enqueue(self, waiting: Waiting) -> None:
        """Append to the private queue, or replace an earlier attempt in its place."""
        old = self.queue.get(waiting.request.request_id)
        self.queue[waiting.request.request_id] = waiting
        self.queued_tokens += waiting.request.total_tokens - (old.request.total_tokens if old else 0)

    def dequeue(self, request_id: str) -> Waiting:
        """Take a request out of the private queue."""
        waiting = self.queue.pop(request_id)
        self.queued_tokens -= waiting.request.total_tokens
        return waiting

    def empty_queue(self) -> Iterable[Waiting]:
        """Take everything out of the private queue, in order."""
        return [self.dequeue(request_id) for request_id in list(self.queue)]

    def _count(self, request: Request, decision: Decision, limits: FetchLimits) -> None:
        self._record = None
        is_prefill = self.role is Role.PREFILL
        if (decision.read_path is ReadPath.PE) == is_prefill:
            self.node = replace(
                self.node,
                read_queue_tokens=self.node.read_queue_tokens + request.hit_tokens,
                read_bytes=self.node.read_bytes + request.hit_tokens * limits.token_bytes,
            )
        if not is_prefill:
            free = self.node.free_buffer_tokens - limits.buffer_tokens(request)
            self.node = replace(self.node, free_buffer_tokens=free)
        engine_id = decision.prefill_engine if is_prefill else decision.decode_engine
        load = self.loads.get(engine_id)
        if load is None:  # the engine has left the group since
            return
        added = request.prompt_tokens if is_prefill else request.total_tokens
        self.unfinished_tokens += added
        count, tokens = load.num_unfinished + 1, load.unfinished_tokens + added
        if isinstance(load, PrefillLoad):
            self.loads[engine_id] = replace(load, num_unfinished=count, unfinished_tokens=tokens)
        else:
            self.loads[engine_id] = replace(
                load,
                num_unfinished=count,
                unfinished_tokens=tokens,
                free_hbm_tokens=load.free_hbm_tokens - request.total_tokens,
            )
