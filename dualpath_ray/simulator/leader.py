"""A group's leader in the simulator: what it would report, at most once an interval (section 6; ``engine/group.py``)."""

from collections.abc import Callable, Sequence

from dualpath_ray.base.types import Role
from dualpath_ray.scheduler.state import DecodeLoad, EngineLoad, GroupReport, NodeLoad, PrefillLoad, Request
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.node import SimNode


class SimLeader:
    """Loads of the engines of a node. A change is reported at once, or when the interval since the last report is over."""

    def __init__(
        self,
        loop: EventLoop,
        node: SimNode,
        engine_ids: Sequence[str],
        block_tokens: int,
        hbm_tokens: int,
        interval_s: float,
        report: Callable[[GroupReport], None],
    ) -> None:
        self._loop, self._node, self._report = loop, node, report
        self._block_tokens, self._interval_s = block_tokens, interval_s
        self._prefill = node.role is Role.PREFILL
        self._ids = list(engine_ids)
        self._count = [0] * len(self._ids)
        self._tokens = [0] * len(self._ids)
        self._hbm_tokens = hbm_tokens
        self._loads: list[EngineLoad] = [self._load(i) for i in range(len(self._ids))]
        self._seen = 0
        self._number = 0
        self._finished: list[str] = []
        self._reported_s = float("-inf")
        self._pending = False

    def report_now(self) -> None:
        """The report of this moment."""
        self._send(None)

    def on_assigned(self, engine: int, request: Request, seq: int) -> None:
        """A decision has come; the scheduler counts it already, so nobody need be told."""
        self._seen = seq
        self._change(engine, 1, request.prompt_tokens if self._prefill else request.total_tokens)

    def on_finished(self, engine: int, request: Request) -> None:
        """An engine is through with a request."""
        self._change(engine, -1, -(request.prompt_tokens if self._prefill else request.total_tokens))
        self._finished.append(request.request_id)
        self.changed()

    def changed(self) -> None:
        """The node's state is another: its read queue is shorter, or its buffer has more room."""
        if not self._pending:
            self._pending = True
            self._loop.at(max(self._loop.now_s, self._reported_s + self._interval_s), self._send)

    def _change(self, engine: int, count: int, tokens: int) -> None:
        self._count[engine] += count
        self._tokens[engine] += tokens
        self._loads[engine] = self._load(engine)

    def _load(self, engine: int) -> EngineLoad:
        tokens = self._tokens[engine]
        if self._prefill:
            return PrefillLoad(self._ids[engine], self._count[engine], tokens)
        return DecodeLoad(self._ids[engine], self._count[engine], tokens, self._hbm_tokens - tokens)

    def _send(self, _: None) -> None:
        self._pending = False
        self._reported_s = self._loop.now_s
        self._number += 1
        finished, self._finished = tuple(self._finished), []
        node = self._node
        free = node.free_blocks * self._block_tokens
        load = NodeLoad(node.name, node.read_queue_tokens, node.read_bytes, True, free)
        role = Role.PREFILL if self._prefill else Role.DECODE
        self._report(GroupReport(node.name, role, load, tuple(self._loads), self._seen, finished, self._number))
