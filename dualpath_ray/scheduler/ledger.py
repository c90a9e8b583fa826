"""One group as the scheduler sees it: its last report, plus what was assigned to it since (section 6).

Without the second part, all that is decided between two reports would herd to the engine that looked idle in the first.
"""

from collections import deque
from collections.abc import Collection
from typing import cast

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.private_queue import PrivateQueue
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


class Group:
    """Loads of a group, ahead of its reports by the decisions that these do not count yet; and its private queue."""

    def __init__(self, report: GroupReport, limits: FetchLimits) -> None:
        self.group_id = report.group_id
        self.role = report.role
        self.is_prefill = report.role is Role.PREFILL
        self.queue = PrivateQueue()  # decode groups only
        self.blocked = False  # the head found no room in the loads as they are
        self._ahead: deque[tuple[Request, Decision]] = deque()  # by decision number
        self._view: GroupView | None = None
        self.accept(report, limits)

    def accept(self, report: GroupReport, limits: FetchLimits) -> None:
        """Take a new report in; decisions up to its ``seen``, and finished requests, are in its loads."""
        self._view = None
        self.node: NodeLoad = report.node
        self.loads: dict[str, EngineLoad] = {load.engine_id: load for load in report.engines}
        self.unfinished_tokens = sum([load.unfinished_tokens for load in report.engines])
        self.free_hbm_tokens = sum([load.free_hbm_tokens for load in report.engines if isinstance(load, DecodeLoad)])
        ahead = self._ahead
        while ahead and ahead[0][1].seq <= report.seen:
            ahead.popleft()
        if ahead:
            if report.finished:
                finished = set(report.finished)
                self._ahead = deque(pair for pair in ahead if pair[0].request_id not in finished)
            for request, decision in self._ahead:
                self._count(request, decision, limits)
        self.queue.set_free(self.free_hbm_tokens)

    def assign(self, request: Request, decision: Decision, limits: FetchLimits) -> EngineLoad:
        """Count a decision that concerns this group, until a report does. Returns: its engine's load from now on."""
        self._ahead.append((request, decision))
        load = self._count(request, decision, limits)
        assert load is not None  # what is decided is decided for an engine that is there
        return load

    def ahead(self, seen: int) -> list[tuple[Request, Decision]]:
        """The decisions after ``seen`` that no report has counted yet, in order."""
        return [pair for pair in self._ahead if pair[1].seq > seen]

    def view(self) -> GroupView:
        """The loads as they are now."""
        if self._view is None:
            self._view = GroupView(self.group_id, self.node, tuple(self.loads.values()))
        return self._view

    def decode_loads(self) -> Collection[DecodeLoad]:
        """Loads of the engines of a decode group."""
        assert not self.is_prefill
        return cast("Collection[DecodeLoad]", self.loads.values())  # in quotes: it is evaluated for every decision

    @property
    def total_tokens(self) -> int:
        """Total tok_e, with the private queue."""
        return self.unfinished_tokens + self.queue.tokens

    def _count(self, request: Request, decision: Decision, limits: FetchLimits) -> EngineLoad | None:
        """Add a decision to the loads. Returns: its engine's load; None when that has left the group since."""
        self._view = None
        is_prefill = self.is_prefill
        reads_here = (decision.read_path is ReadPath.PE) is is_prefill
        if reads_here or not is_prefill:
            node_id, read_queue, read_bytes, can_read, free_buffer, nics = self.node
            if reads_here:
                read_queue += request.hit_tokens
                read_bytes += request.hit_tokens * limits.token_bytes
            if not is_prefill:
                free_buffer -= limits.buffer_tokens(request)
            self.node = NodeLoad(node_id, read_queue, read_bytes, can_read, free_buffer, nics)
        load = self.loads.get(decision.prefill_engine if is_prefill else decision.decode_engine)
        if load is None:
            return None
        after: EngineLoad
        if isinstance(load, PrefillLoad):
            engine_id, count, tokens = load
            added = request.prompt_tokens
            after = PrefillLoad(engine_id, count + 1, tokens + added)
        else:
            engine_id, count, tokens, free_hbm = load
            added = request.total_tokens
            self.free_hbm_tokens -= added
            after = DecodeLoad(engine_id, count + 1, tokens + added, free_hbm - added)
        self.unfinished_tokens += added
        self.loads[engine_id] = after
        return after
