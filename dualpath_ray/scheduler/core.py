"""The scheduler as a state machine: requests and reports in, decisions out (section 6). No clock, no Ray.

A decision binds the DE first, then the PE, then the read side. A request that one of them has no room for keeps its
place in the queue and holds nothing. What is chosen is what the functions of ``inter_engine.py`` choose; rankings that
are kept up to date make that O(log engines) a decision, however long the queue.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import NamedTuple

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.history import FULL, LoadHistory
from dualpath_ray.scheduler.inter_engine import balance_threshold, choose_decode_engine
from dualpath_ray.scheduler.ledger import Group
from dualpath_ray.scheduler.prefill_pool import PrefillPool
from dualpath_ray.scheduler.private_queue import Waiting
from dualpath_ray.scheduler.ranking import Ranking
from dualpath_ray.scheduler.read_side import ReadPathPolicy, ReadSideInputs, policy_name
from dualpath_ray.scheduler.records import view_to_json
from dualpath_ray.scheduler.sharing import SharedOut, SharingHistory
from dualpath_ray.scheduler.state import (
    Decision,
    DecisionInputs,
    DecodeLoad,
    FetchLimits,
    GroupReport,
    Request,
)


class _Bound(NamedTuple):
    """Where a request decodes."""

    attempt: int
    group: str
    engine: str


class SchedulerCore:
    """The waiting queues and the load view. Groups register by their first report."""

    def __init__(self, limits: FetchLimits, policy: ReadPathPolicy, keep_inputs: bool = True) -> None:
        """Args: keep_inputs: with every decision; without them there is nothing to replay, and less to do."""
        self._policy = policy
        self._policy_name = policy_name(policy)
        self._keep_inputs = keep_inputs
        self._groups: dict[str, Group] = {}
        self._drained: set[str] = set()  # groups that get nothing new
        self._latest: dict[str, GroupReport] = {}
        self._global: OrderedDict[str, Waiting] = OrderedDict()  # FIFO, by request id
        self._queued_in: dict[str, str] = {}  # request id -> decode group whose private queue it is in
        self._bound: dict[str, _Bound] = {}  # by request id, until finished at its decode engine
        self._arrivals = 0
        self._seq = 0
        self._turn = 0
        self._paths: Counter[ReadPath] = Counter()
        self._no_prefill = False  # no prefill engine takes anything with the loads as they are
        self._by_tokens: Ranking[tuple[int, str]] = Ranking()  # decode groups by total tok_e
        self._heads: Ranking[tuple[int, str]] = Ranking()  # those with work and, as far as is known, room: by arrival
        self._sharing: SharingHistory | None = None  # None: starts with the next request that is shared out
        self._loads: LoadHistory | None = None  # None: starts with the next decision
        self.set_limits(limits)

    def set_limits(self, limits: FetchLimits) -> None:
        """New constants from now on (profiled anew)."""
        self._limits = limits
        self._prefill = PrefillPool(limits)
        for group in self._taking(Role.PREFILL):
            self._prefill.update(group)
        for group in self._taking(Role.DECODE):
            self._ready(group)
        self._no_prefill = False

    def set_policy(self, policy: ReadPathPolicy) -> None:
        """Another policy of the read side, from the next decision on."""
        self._policy, self._policy_name = policy, policy_name(policy)

    @property
    def groups(self) -> frozenset[str]:
        """Groups that have reported."""
        return frozenset(self._groups)

    @property
    def num_waiting(self) -> int:
        """Requests that nothing is bound to yet."""
        return len(self._global) + len(self._queued_in)

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
        group = self._groups[group_id]
        group.queue.remove(request_id)
        self._ready(group)
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
            group = self._groups[report.group_id] = Group(report, self._limits)
            self._loads = None
            if report.role is Role.DECODE:  # share out anew, or a group that comes late would idle beside long queues
                self._share_out_anew()
        else:
            group.accept(report, self._limits)
            if self._loads is not None and self._takes(group):
                self._loads.report(group.view())
        if report.role is Role.PREFILL:
            if self._takes(group):
                self._prefill.update(group)
                self._no_prefill = False
            return
        self._ready(group)
        for request_id in report.finished:
            bound = self._bound.get(request_id)
            if bound is not None and bound.group == report.group_id:
                del self._bound[request_id]

    def drain_group(self, group_id: str) -> None:
        """Nothing new goes there. What is bound to it goes on; what waits for it waits for the others."""
        self._drained.add(group_id)
        group = self._groups.get(group_id)
        if group is None:
            return
        self._loads = None
        if group.role is Role.PREFILL:
            self._prefill.remove(group)
        else:
            self._by_tokens.discard(group_id)
            self._heads.discard(group_id)
            self._share_out_anew()

    def undrain_group(self, group_id: str) -> None:
        """It takes work again."""
        self._drained.discard(group_id)
        group = self._groups.get(group_id)
        if group is None:
            return
        self._loads = None
        if group.role is Role.PREFILL:
            self._prefill.update(group)
            self._no_prefill = False
        else:
            self._share_out_anew()

    def is_idle(self, group_id: str) -> bool:
        """Nothing is bound to the group: neither what it has reported nor what it has not fetched yet."""
        group = self._groups.get(group_id)
        if group is None:
            return True
        bound = any(bound.group == group_id for bound in self._bound.values())
        return not bound and not group.ahead(0) and not any(load.num_unfinished for load in group.loads.values())

    def remove_group(self, group_id: str) -> None:
        """A group died: nothing goes there, and what waited for it goes back to its place in the global queue.

        What was bound to it is not decided again here: its submitter submits a new attempt. It is no longer drained, either.
        """
        self._drained.discard(group_id)
        self._latest.pop(group_id, None)
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        if group.role is Role.PREFILL:
            self._prefill.remove(group)
        self._by_tokens.discard(group_id)
        self._heads.discard(group_id)
        self._loads = None
        self._share_out_anew(group.queue.clear())
        for request_id in [key for key, bound in self._bound.items() if bound.group == group_id]:
            del self._bound[request_id]

    def plan(self) -> list[Decision]:
        """Decide what the loads allow now, in order of arrival.

        A decode group whose head finds no room takes no more; no prefill engine below beta ends the plan.
        """
        decisions: list[Decision] = []
        self.plan_some(decisions, sys.maxsize, sys.maxsize)
        return decisions

    def plan_some(self, decisions: list[Decision], most: int, most_shared: int) -> bool:
        """``plan`` in parts, for whoever must not be away for long.

        Args:   decisions: are appended to one by one, so that none is lost should a policy fail.
            most: decisions of this call; most_shared: requests that it shares out among the decode groups.
        Returns: whether there may be more to do.
        """
        if self._global:
            self._drain(most_shared)
        while not self._no_prefill and len(decisions) < most and (first := self._heads.first()) is not None:
            group = self._groups[first[1]]
            waiting = group.queue.head
            assert waiting is not None  # a group without work is not ranked
            engine = self._decode_engine(waiting, group)
            if engine is None:
                group.blocked = True
                self._heads.discard(group.group_id)
                continue
            decision = self._bind(waiting, group, engine)
            if decision is None:
                self._no_prefill = True
                break
            decisions.append(decision)
            self._rank_head(group)
        return len(decisions) >= most or bool(self._global and self._by_tokens.first())

    def undelivered(self, group_id: str, seen: int) -> list[tuple[Request, Decision]]:
        """Decisions for a group, as its DE or its PE, after number ``seen``; given again until a report counts them."""
        group = self._groups.get(group_id)
        return group.ahead(seen) if group else []

    def status(self) -> dict[str, object]:
        """Queues, loads and counts, and why what waits is waiting."""
        return {
            "policy": self._policy_name,
            "limits": asdict(self._limits),
            "num_waiting": self.num_waiting,
            "num_bound": len(self._bound),
            "num_decisions": self._seq,
            "num_by_path": {path.value: self._paths[path] for path in ReadPath},
            "waits_for_prefill": self._no_prefill,
            "groups": {
                group_id: {
                    "role": group.role.value,
                    "num_queued": len(group.queue),
                    "total_tokens": group.total_tokens,
                    "waits_for_room": group.blocked,
                    "drained": not self._takes(group),
                    **view_to_json(group.view()),
                }
                for group_id, group in self._groups.items()
            },
        }

    def _takes(self, group: Group) -> bool:
        """Whether it gets work."""
        return group.group_id not in self._drained

    def _taking(self, role: Role) -> list[Group]:
        """The groups of a role that get work."""
        return [group for group in self._groups.values() if group.role is role and self._takes(group)]

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
            self._global[request_id] = Waiting(self._arrivals, request, request.total_tokens)
            return
        waiting = Waiting(old.arrival, request, request.total_tokens, old.shared_out)
        if group_id is None:
            self._global[request_id] = waiting
        else:
            group = self._groups[group_id]
            group.queue.replace(waiting)
            self._ready(group)

    def _ready(self, group: Group) -> None:
        """A decode group's loads or its head have changed: it may have room, and its ranks are others."""
        if not self._takes(group):
            return
        group.blocked = False
        self._rank_total(group)
        self._rank_head(group)

    def _rank_head(self, group: Group) -> None:
        head = group.queue.head
        if head is None:
            self._heads.discard(group.group_id)
        else:
            self._heads.set((head.arrival, group.group_id))

    def _rank_total(self, group: Group) -> None:
        entry = (group.total_tokens, group.group_id)
        self._by_tokens.set(entry)
        if self._sharing is not None:
            self._sharing.changes.append(entry)
            if len(self._sharing.changes) >= FULL:
                self._sharing = None

    def _share_out_anew(self, orphans: Iterable[Waiting] = ()) -> None:
        """Put every private queue, and what a dead group held, back into the global queue by arrival."""
        self._sharing = None  # its groups are others
        decode = [group for group in self._groups.values() if group.role is Role.DECODE]
        queued = [waiting for group in decode for waiting in group.queue.clear()]
        every = sorted([*orphans, *queued, *self._global.values()], key=lambda waiting: waiting.arrival)
        self._global = OrderedDict((waiting.request.request_id, waiting) for waiting in every)
        self._queued_in.clear()
        for group in decode:  # one that is drained is not ranked again
            self._ready(group)

    def _drain(self, most: int) -> None:
        """Requests of the global queue to the private queues of decode groups (section 6, DE across groups)."""
        while self._global and most > 0 and (first := self._by_tokens.first()) is not None:
            most -= 1
            request_id, waiting = self._global.popitem(last=False)
            group = self._groups[first[1]]
            if self._keep_inputs:
                history = self._sharing or self._start_sharing()
                waiting.shared_out = SharedOut(history, len(history.changes))
            if group.queue.append(waiting):
                self._rank_head(group)
            self._queued_in[request_id] = first[1]
            self._rank_total(group)

    def _start_sharing(self) -> SharingHistory:
        self._sharing = SharingHistory({group.group_id: group.total_tokens for group in self._taking(Role.DECODE)})
        return self._sharing

    def _decode_engine(self, waiting: Waiting, group: Group) -> DecodeLoad | None:
        request = waiting.request
        if group.node.free_buffer_tokens < self._limits.buffer_tokens(request):
            return None
        loads = group.decode_loads()
        if not loads:
            return None
        fitting = group.queue.fitting_tokens
        threshold = balance_threshold(fitting, group.unfinished_tokens, len(loads), self._limits)
        return choose_decode_engine(request, loads, threshold)

    def _bind(self, waiting: Waiting, decode: Group, engine: DecodeLoad) -> Decision | None:
        """Choose PE and read side for the head of a private queue and count the decision; None without a PE."""
        chosen = self._prefill.best()
        if chosen is None:
            return None
        request, limits = waiting.request, self._limits
        request_id, attempt, decode_id = request.request_id, request.attempt, decode.group_id
        prefill, prefill_engine = chosen
        path, reason = self._policy(ReadSideInputs(request, prefill.node, decode.node, self._turn))
        self._seq += 1
        history = (self._loads or self._start_loads()) if self._keep_inputs else None
        decision = Decision(
            self._seq,
            request_id,
            attempt,
            decode_id,
            engine.engine_id,
            decode.node.node_id,
            prefill.group_id,
            prefill_engine,
            prefill.node.node_id,
            path,
            reason,
            self._inputs(waiting, decode, history) if history is not None else None,
        )
        del self._queued_in[request_id]
        decode.queue.bind_head()
        decode_load = decode.assign(request, decision, limits)
        prefill_load = prefill.assign(request, decision, limits)
        self._prefill.assigned(prefill, prefill_load)
        if history is not None:
            history.assign((decode_id, decode.node, decode_load), (prefill.group_id, prefill.node, prefill_load))
            if len(history.changes) >= FULL:
                self._loads = None
        self._bound[request_id] = _Bound(attempt, decode_id, engine.engine_id)
        if request.hit_tokens:
            self._turn += 1
            self._paths[path] += 1
        return decision

    def _start_loads(self) -> LoadHistory:
        views = {role: {group.group_id: group.view() for group in self._taking(role)} for role in Role}
        self._loads = LoadHistory(views[Role.PREFILL], views[Role.DECODE])
        return self._loads

    def _inputs(self, waiting: Waiting, decode: Group, history: LoadHistory) -> DecisionInputs:
        assert waiting.shared_out is not None
        return DecisionInputs(
            waiting.request.without_payload(),
            waiting.shared_out,
            decode.queue.fitting_tokens,
            history.moment(decode.group_id),
            self._limits,
            self._policy_name,
            self._turn,
        )
