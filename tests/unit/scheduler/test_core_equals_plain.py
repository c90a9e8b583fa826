"""The core decides what the plain functions of ``inter_engine.py`` decide, whatever happened before."""

import sys
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.decision_log import replay, to_record
from dualpath_ray.scheduler.inter_engine import (
    balance_threshold,
    choose_decode_engine,
    choose_decode_group,
    choose_prefill_engine,
    fitting_tokens,
)
from dualpath_ray.scheduler.read_side import ReadSideInputs, load_policy
from dualpath_ray.scheduler.state import Decision, DecodeLoad, GroupReport, PrefillLoad

policies = st.sampled_from(["prefill_only", "round_robin", "scheduled"])
EVENTS = ["submit", "submit", "reports", "reports", "report", "cancel", "remove", "drain", "undrain", "policy"]
NAMES = ("p0", "p1", "d0", "d1")


class PlainGroup:
    def __init__(self):
        self.queue = []
        self.ahead = []

    def accept(self, report, limits):
        self.report = report
        done = set(report.finished)
        self.ahead = [(r, d) for r, d in self.ahead if d[0] > report.seen and r.request_id not in done]
        self.node, self.loads = report.node, {load.engine_id: load for load in report.engines}
        for request, decision in self.ahead:
            self.count(request, decision, limits)

    def count(self, request, decision, limits):
        _, _, decode_engine, prefill_engine, path = decision
        side = ReadPath.PE if self.report.role is Role.PREFILL else ReadPath.DE
        hit = request.hit_tokens if path is side else 0
        buffer = limits.buffer_tokens(request) if side is ReadPath.DE else 0
        self.node = self.node._replace(
            read_queue_tokens=self.node.read_queue_tokens + hit,
            read_bytes=self.node.read_bytes + hit * limits.token_bytes,
            free_buffer_tokens=self.node.free_buffer_tokens - buffer,
        )
        engine = prefill_engine if side is ReadPath.PE else decode_engine
        name, count, tokens, *hbm = self.loads[engine]
        added = request.prompt_tokens if side is ReadPath.PE else request.total_tokens
        kind = PrefillLoad if side is ReadPath.PE else DecodeLoad
        self.loads[engine] = kind(name, count + 1, tokens + added, *(free - added for free in hbm))

    def total(self):
        return sum(load.unfinished_tokens for load in self.loads.values()) + sum(r.total_tokens for _, r in self.queue)


class PlainScheduler:
    """Looks at everything anew for every decision."""

    def __init__(self, limits, policy):
        self.limits, self.policy = limits, policy
        self.groups, self.shared, self.drained = {}, [], set()
        self.arrivals = self.seq = self.turn = 0

    def of_role(self, initial):
        return {name: group for name, group in self.groups.items() if name[0] == initial}

    def working(self, initial):
        return {name: group for name, group in self.of_role(initial).items() if name not in self.drained}

    def set_policy(self, policy):
        self.policy = policy

    def drain_group(self, name):
        self.drained.add(name)
        if name in self.of_role("d"):
            self.share_out_anew()

    def undrain_group(self, name):
        self.drained.discard(name)
        if name in self.of_role("d"):
            self.share_out_anew()

    def submit(self, requests):
        for request in requests:
            self.arrivals += 1
            self.shared.append((self.arrivals, request))

    def share_out_anew(self, more=()):
        self.shared += more
        for group in self.of_role("d").values():
            self.shared += group.queue
            group.queue = []
        self.shared.sort(key=lambda pair: pair[0])

    def report(self, report):
        new = report.group_id not in self.groups
        self.groups.setdefault(report.group_id, PlainGroup()).accept(report, self.limits)
        if new and report.role is Role.DECODE:
            self.share_out_anew()

    def remove_group(self, name):
        self.drained.discard(name)
        group = self.groups.pop(name, None)
        if group is not None:
            self.share_out_anew(group.queue)

    def cancel(self, request_id):
        for queue in [self.shared, *(group.queue for group in self.groups.values())]:
            queue[:] = [pair for pair in queue if pair[1].request_id != request_id]

    def plan(self):
        decode = self.working("d")
        if decode:
            for pair in self.shared:
                decode[choose_decode_group({name: group.total() for name, group in decode.items()})].queue.append(pair)
            self.shared = []
        decisions, blocked = [], set()
        while heads := [(g.queue[0][0], name) for name, g in decode.items() if g.queue and name not in blocked]:
            name = min(heads)[1]
            group = decode[name]
            request = group.queue[0][1]
            loads = list(group.loads.values())
            fitting = fitting_tokens([r for _, r in group.queue], loads)
            z = balance_threshold(fitting, sum(load.unfinished_tokens for load in loads), len(loads), self.limits)
            engine = choose_decode_engine(request, loads, z)
            if engine is None or group.node.free_buffer_tokens < self.limits.buffer_tokens(request):
                blocked.add(name)
                continue
            prefill = {load: g for g in self.working("p").values() for load in g.loads.values()}
            queues = {load.engine_id: g.node.read_queue_tokens for load, g in prefill.items()}
            best = choose_prefill_engine(prefill, queues, self.limits)
            if best is None:
                break
            path, _ = self.policy(ReadSideInputs(request, prefill[best].node, group.node, self.turn))
            self.seq += 1
            self.turn += request.hit_tokens > 0
            decision = (self.seq, request.request_id, engine.engine_id, best.engine_id, path)
            group.queue.pop(0)
            for side in (group, prefill[best]):
                side.ahead.append((request, decision))
                side.count(request, decision, self.limits)
            decisions.append(decision)
        return decisions


@settings(deadline=None, max_examples=200)
@given(data=st.data(), full=st.sampled_from([3, 1024]))
def test_the_core_decides_as_the_plain_functions(drawn, data, full):
    """And whatever was reported and decided since, a decision is taken again from what it was made on."""
    with patch("dualpath_ray.scheduler.core.FULL", full):  # so that histories start anew
        for decision in decide_both(drawn, data):
            assert replay(to_record(decision)) == decision


def decide_both(drawn, data):
    """Returns: all decisions, in order, of a core that agrees with the plain functions."""
    every = []
    limits, policy = data.draw(drawn.limits), load_policy(data.draw(policies))
    core, plain = SchedulerCore(limits, policy), PlainScheduler(limits, policy)
    both = (core, plain)
    submitted = []
    for _ in range(data.draw(st.integers(1, 12))):
        event = data.draw(st.sampled_from(EVENTS))
        if event == "submit":
            known = {request.request_id for request in submitted}
            requests = [request for request in data.draw(drawn.waiting) if request.request_id not in known]
            submitted += requests
            for scheduler in both:
                scheduler.submit(requests)
        elif event in ("reports", "report"):
            reports = data.draw(drawn.systems)
            for name in NAMES if event == "reports" else [data.draw(st.sampled_from(NAMES))]:
                seen = data.draw(st.integers(max(0, plain.seq - 5), plain.seq))
                finished = tuple(r.request_id for r in submitted[: data.draw(st.integers(0, len(submitted)))])
                told = reports[name]
                report = GroupReport(name, told.role, told.node, told.engines, seen, finished)
                for scheduler in both:
                    scheduler.report(report)
        elif event == "cancel" and submitted:
            request_id = data.draw(st.sampled_from(submitted)).request_id
            for scheduler in both:
                scheduler.cancel(request_id)
        elif event == "remove":
            name = data.draw(st.sampled_from(NAMES))
            for scheduler in both:
                scheduler.remove_group(name)
        elif event in ("drain", "undrain"):
            name = data.draw(st.sampled_from(NAMES))
            for scheduler in both:
                getattr(scheduler, f"{event}_group")(name)
        elif event == "policy":
            policy = load_policy(data.draw(policies))
            for scheduler in both:
                scheduler.set_policy(policy)
        decided = []
        most, more = data.draw(st.sampled_from([1, 3, 10**6])), True
        while more:
            some: list[Decision] = []
            more = core.plan_some(some, most, sys.maxsize)
            decided += some
        every += decided
        assert [(d.seq, d.request_id, d.decode_engine, d.prefill_engine, d.read_path) for d in decided] == plain.plan()
        assert core.num_waiting == len(plain.shared) + sum(len(group.queue) for group in plain.groups.values())
    return every
