"""The scheduler as a state machine: requests and reports in, decisions out (section 6). No clock, no Ray.

A decision binds the DE first, then the PE, then the read side. A request that one of them has no room for keeps its
place in the queue and holds nothing.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from heapq import heapify, heappop, heappush

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.inter_engine import (
    balance_threshold,
    choose_decode_engine,
    choose_decode_group,
    choose_prefill_engine,
    fitting_tokens,
)
from dualpath_ray.scheduler.ledger import Group, Waiting
from dualpath_ray.scheduler.read_side import ReadPathPolicy, ReadSideInputs, policy_name
from dualpath_ray.scheduler.records import request_to_json
from dualpath_ray.scheduler.state import Decision, DecodeLoad, FetchLimits, GroupReport, PrefillLoad, Request


@dataclass(frozen=True, slots=True)
class _Bound:
    """Where a request decodes."""

    attempt: int
    group: str
    engine: str


class SchedulerCore:
    """The waiting queues and the load view. Groups register by their first report."""

    def __init__(self, limits: FetchLimits, policy: ReadPathPolicy) -> None:
        self._policy = policy
        self._policy_name = policy_name(policy)
        self._groups: dict[str, Group] = {}
        self._latest: dict[str, GroupReport] = {}
        self._global: OrderedDict[str, Waiting] = OrderedDict()  # FIFO, by request id
        self._queued_in: dict[str, str] = {}  # request id -> decode group whose private queue it is in
        self._bound: dict[str, _Bound] = {}  # by request id, until finished at its decode engine
        self._arrivals = 0
        self._seq = 0
        self._turn = 0
        self._paths: Counter[ReadPath] = Counter()
        self._no_decode_room: set[str] = set()  # groups whose head found no room in the loads as they are
        self._no_prefill = False  # no prefill engine takes anything with the loads as they are
        self.set_limits(limits)

    def set_limits(self, limits: FetchLimits) -> None:
        """New constants from now on (profiled anew)."""
        self._limits = limits
        self._limits_record = asdict(limits)
        self._no_prefill = False

    @property
    def groups(self) -> frozenset[str]:
        """Groups that have reported."""
        return frozenset(self._groups)

    def submit(self, requests: Iterable[Request]) -> None:
        """Append to the waiting queue.

        What is waiting or bound already is left out, so a call may be repeated; a later attempt takes the place of an
        earlier one that waits, and queues anew behind one that was bound.
        """
        for request in requests:
            self._submit(request)

    def cancel(self, request_id: str) -> tuple[bool, str]:
        """Forget a request.

        Returns: whether it was still waiting; and the decode engine that it is bound to, which must be told ("": none).
        """
        bound = self._bound.pop(request_id, None)
        if self._global.pop(request_id, None) is not None:
            return True, ""
        group_id = self._queued_in.pop(request_id, None)
        if group_id is None:
            return False, bound.engine if bound else ""
        self._groups[group_id].dequeue(request_id)
        self._no_decode_room.discard(group_id)
        return True, ""

    def report(self, report: GroupReport) -> None:
        """Take in a group's loads and completions; the first report of a group registers it."""
        latest = self._latest.get(report.group_id)
        if latest is not None and report.number < latest.number:
            report = replace(latest, finished=report.finished)  # overtaken: only what it alone tells still counts
        self._latest[report.group_id] = report
        self._seq = max(self._seq, report.seen)  # of a scheduler before this one: its numbers must not come again
        group = self._groups.get(report.group_id)
        if group is not None and group.role is not report.role:
            self.remove_group(report.group_id)
            group = None
        if group is None:
            self._groups[report.group_id] = Group(report, self._limits)
            if report.role is Role.DECODE:  # share out anew, or a group that comes late would idle beside long queues
                self._share_out_anew()
        else:
            group.accept(report, self._limits)
        if report.role is Role.PREFILL:
            self._no_prefill = False
        else:
            self._no_decode_room.discard(report.group_id)
            for request_id in report.finished:
                bound = self._bound.get(request_id)
                if bound is not None and bound.group == report.group_id:
                    del self._bound[request_id]

    def remove_group(self, group_id: str) -> None:
        """A group died: nothing goes there, and what waited for it goes back to its place in the global queue.

        What was bound to it is not decided again here: its submitter submits a new attempt.
        """
        self._latest.pop(group_id, None)
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        self._share_out_anew(group.empty_queue())
        for request_id in [key for key, bound in self._bound.items() if bound.group == group_id]:
            del self._bound[request_id]

    def plan(self) -> list[Decision]:
        """Decide all that the loads allow now, in order of arrival.

        A decode group whose head finds no room takes no more; no prefill engine below beta ends the plan.
        """
        self._drain()
        heads = [
            (next(iter(group.queue.values())).arrival, group_id)
            for group_id, group in self._groups.items()
            if group.queue and group_id not in self._no_decode_room
        ]
        if not heads or self._no_prefill:
            return []
        heapify(heads)
        prefill = {engine_id: group for group in self._groups.values() for engine_id in _prefill_loads(group)}
        fitting: dict[str, int] = {}
        decisions: list[Decision] = []
        while heads:
            _, group_id = heappop(heads)
            group = self._groups[group_id]
            waiting = next(iter(group.queue.values()))
            if group_id not in fitting:
                queued = (each.request for each in group.queue.values())
                fitting[group_id] = fitting_tokens(queued, _decode_loads(group))
            engine = self._decode_engine(waiting.request, group, fitting[group_id])
            if engine is None:
                self._no_decode_room.add(group_id)
                continue
            decision = self._bind(waiting, group, engine, fitting[group_id], prefill)
            if decision is None:
                self._no_prefill = True
                break
            decisions.append(decision)
            fitting[group_id] -= waiting.request.total_tokens
            if group.queue:
                heappush(heads, (next(iter(group.queue.values())).arrival, group_id))
        return decisions

    def undelivered(self, group_id: str, seen: int) -> list[tuple[Request, Decision]]:
        """Decisions for a group, as its DE or its PE, after number ``seen``; given again until a report counts them."""
        group = self._groups.get(group_id)
        return group.ahead(seen) if group else []

    def status(self) -> dict[str, object]:
        """Queues, loads and counts, and why what waits is waiting."""
        return {
            "policy": self._policy_name,
            "limits": self._limits_record,
            "num_waiting": len(self._global) + len(self._queued_in),
            "num_bound": len(self._bound),
            "num_decisions": self._seq,
            "num_by_path": {path.value: self._paths[path] for path in ReadPath},
            "waits_for_prefill": self._no_prefill,
            "groups": {
                group_id: {
                    "role": group.role.value,
                    "num_queued": len(group.queue),
                    "total_tokens": group.total_tokens,
                    "waits_for_room": group_id in self._no_decode_room,
                    **group.record(),
                }
                for group_id, group in self._groups.items()
            },
        }

    def _submit(self, request: Request) -> None:
        request_id = request.request_id
        bound = self._bound.get(request_id)
        if bound is not None and bound.attempt >= request.attempt:
            return
        group_id = self._queued_in.get(request_id)
        old = self._global.get(request_id) if group_id is None else self._groups[group_id].queue[request_id]
        if old is not None and old.request.attempt >= request.attempt:
            return
        if old is None:
            self._arrivals += 1
            self._global[request_id] = Waiting(self._arrivals, request, {})
        elif group_id is None:
            self._global[request_id] = Waiting(old.arrival, request, {})
        else:
            self._groups[group_id].enqueue(Waiting(old.arrival, request, old.group_tokens))
            self._no_decode_room.discard(group_id)

    def _share_out_anew(self, orphans: Iterable[Waiting] = ()) -> None:
        """Put every private queue, and what a dead group held, back into the global queue by arrival."""
        queued = [waiting for group in self._groups.values() for waiting in group.empty_queue()]
        every = sorted([*orphans, *queued, *self._global.values()], key=lambda waiting: waiting.arrival)
        self._global = OrderedDict((waiting.request.request_id, waiting) for waiting in every)
        self._queued_in.clear()
        self._no_decode_room.clear()

    def _drain(self) -> None:
        """Each request of the global queue to the private queue of a decode group (section 6, DE across groups)."""
        tokens = {key: group.total_tokens for key, group in self._groups.items() if group.role is Role.DECODE}
        while self._global and tokens:
            request_id, waiting = self._global.popitem(last=False)
            waiting.group_tokens = dict(tokens)
            group_id = choose_decode_group(tokens)
            self._groups[group_id].enqueue(waiting)
            self._queued_in[request_id] = group_id
            tokens[group_id] += waiting.request.total_tokens

    def _decode_engine(self, request: Request, group: Group, fitting: int) -> DecodeLoad | None:
        loads = _decode_loads(group)
        if not loads or group.node.free_buffer_tokens < self._limits.buffer_tokens(request):
            return None
        return choose_decode_engine(request, loads, balance_threshold(fitting, loads, self._limits))

    def _bind(
        self, waiting: Waiting, decode: Group, engine: DecodeLoad, fitting: int, group_of: dict[str, Group]
    ) -> Decision | None:
        """Choose PE and read side for the head of a private queue and count the decision; None without a PE.

        Args: group_of: the group of each prefill engine.
        """
        request = waiting.request
        groups = {group.group_id: group for group in group_of.values()}
        loads = [load for group in groups.values() for load in _prefill_loads(group).values()]
        read_queues = {engine_id: group.node.read_queue_tokens for engine_id, group in group_of.items()}
        prefill_engine = choose_prefill_engine(loads, read_queues, self._limits)
        if prefill_engine is None:
            return None
        prefill = group_of[prefill_engine.engine_id]
        path, reason = self._policy(ReadSideInputs(request, prefill.node, decode.node, self._turn))
        self._seq += 1
        decision = Decision(
            seq=self._seq,
            request_id=request.request_id,
            attempt=request.attempt,
            decode_group=decode.group_id,
            decode_engine=engine.engine_id,
            decode_node=decode.node.node_id,
            prefill_group=prefill.group_id,
            prefill_engine=prefill_engine.engine_id,
            prefill_node=prefill.node.node_id,
            read_path=path,
            reason=reason,
            inputs={
                "request": request_to_json(request),
                "groups": waiting.group_tokens,
                "fitting_tokens": fitting,
                "decode": decode.record(),
                "prefill": [group.record() for group in groups.values()],
                "limits": self._limits_record,
                "policy": self._policy_name,
                "turn": self._turn,
            },
        )
        decode.dequeue(request.request_id)
        del self._queued_in[request.request_id]
        decode.assign(request, decision, self._limits)
        prefill.assign(request, decision, self._limits)
        self._bound[request.request_id] = _Bound(request.attempt, decode.group_id, engine.engine_id)
        self._turn += request.hit_tokens > 0
        self._paths[path] += request.hit_tokens > 0
        return decision


def _decode_loads(group: Group) -> list[DecodeLoad]:
    return [load for load in group.loads.values() if isinstance(load, DecodeLoad)]


def _prefill_loads(group: Group) -> dict[str, PrefillLoad]:
    return {engine_id: load for engine_id, load in group.loads.items() if isinstance(load, PrefillLoad)}
