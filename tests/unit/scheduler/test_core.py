import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.decision_log import from_record, replay, to_record
from dualpath_ray.scheduler.read_side import load_policy, prefill_only, round_robin, scheduled

policies = st.sampled_from(["prefill_only", "round_robin", "scheduled"])


def with_reports(limits, *reports, policy=scheduled):
    core = SchedulerCore(limits, policy)
    for report in reports:
        core.report(report)
    return core


def ids(decisions):
    return [decision.request_id for decision in decisions]


@settings(deadline=None)
@given(data=st.data())
def test_every_decision_keeps_the_rules_and_replays(drawn, data):
    waiting, limits, system = (data.draw(x) for x in (drawn.waiting, drawn.limits, drawn.systems))
    policy = data.draw(policies)
    core = with_reports(limits, *system.values(), policy=load_policy(policy))
    core.submit(waiting)
    decisions = core.plan()
    by_id = {request.request_id: request for request in waiting}
    order = list(by_id)

    assert [decision.seq for decision in decisions] == list(range(1, len(decisions) + 1))
    tok_e = {load.engine_id: load.unfinished_tokens for report in system.values() for load in report.engines}
    hbm = {load.engine_id: load.free_hbm_tokens for d in ("d0", "d1") for load in system[d].engines}
    buffer = {d: system[d].node.free_buffer_tokens for d in ("d0", "d1")}
    read_q = {name: report.node.read_queue_tokens for name, report in system.items()}
    for decision in decisions:
        request = by_id[decision.request_id]
        free = {e: tok for e, tok in tok_e.items() if e[0] == "p" and tok <= limits.max_unfinished_tokens}
        assert decision.prefill_engine in free
        short = {e: tok for e, tok in free.items() if read_q[e[:2]] <= limits.short_read_queue_tokens}
        assert tok_e[decision.prefill_engine] == min((short or free).values())
        assert decision.prefill_engine in (short or free)
        reader = decision.prefill_node if decision.read_path is ReadPath.PE else decision.decode_node
        read_q[reader] += request.hit_tokens
        tok_e[decision.prefill_engine] += request.prompt_tokens
        tok_e[decision.decode_engine] += request.total_tokens
        hbm[decision.decode_engine] -= request.total_tokens
        buffer[decision.decode_node] -= -(-request.prompt_tokens // limits.block_tokens) * limits.block_tokens
        assert hbm[decision.decode_engine] >= 0 and buffer[decision.decode_node] >= 0

        record = json.loads(json.dumps(to_record(decision)))
        assert from_record(record) == decision
        assert replay(record) == decision

    # FIFO within each decode group, and work is left only where its engine, its buffer or every PE has no room.
    for group in ("d0", "d1"):
        places = [order.index(d.request_id) for d in decisions if d.decode_group == group]
        assert places == sorted(places)
    if len(decisions) < len(waiting):
        status = core.status()
        full = min(tok for engine, tok in tok_e.items() if engine[0] == "p") > limits.max_unfinished_tokens
        assert status["waits_for_prefill"] or all(
            group["waits_for_room"] for group in status["groups"].values() if group["num_queued"]
        )
        assert full or not status["waits_for_prefill"]
        assert status["num_waiting"] == len(waiting) - len(decisions)
    assert core.plan() == [], "a second plan on the same loads decides nothing more"


@settings(deadline=None)
@given(data=st.data())
def test_loads_are_what_was_reported_plus_what_was_assigned_since(drawn, data):
    system = data.draw(drawn.systems)
    limits = replace(data.draw(drawn.limits), max_unfinished_tokens=10**9)
    core = with_reports(limits, *system.values())
    waiting = data.draw(drawn.waiting)
    core.submit(waiting)
    decisions = core.plan()
    seen = data.draw(st.integers(0, len(decisions)))
    for report in system.values():
        core.report(replace(report, seen=seen))
    by_id = {request.request_id: request for request in waiting}
    for name, report in system.items():
        ahead = [by_id[d.request_id] for d in decisions if d.seq > seen and name in (d.prefill_group, d.decode_group)]
        reads = [
            by_id[d.request_id].hit_tokens
            for d in decisions
            if d.seq > seen and name == (d.prefill_node if d.read_path is ReadPath.PE else d.decode_node)
        ]
        status = core.status()["groups"][name]
        reported = sum(load.unfinished_tokens for load in report.engines)
        counts = [r.prompt_tokens if name[0] == "p" else r.total_tokens for r in ahead]
        assert sum(e["unfinished_tokens"] for e in status["engines"]) - reported == sum(counts)
        assert status["node"]["read_queue_tokens"] - report.node.read_queue_tokens == sum(reads)
        assert status["node"]["read_bytes"] - report.node.read_bytes == sum(reads) * limits.token_bytes
        assert [d.seq for _, d in core.undelivered(name, seen)] == [
            d.seq for d in decisions if d.seq > seen and name in (d.prefill_group, d.decode_group)
        ]


def test_arrivals_are_served_in_order(make):
    core = with_reports(make.limits, make.prefill(), make.decode())
    core.submit([make.request(f"r{i}") for i in range(9)])
    assert ids(core.plan()) == [f"r{i}" for i in range(9)]


def test_one_batch_does_not_herd(make):
    prefills = [make.prefill(name, (0, 0)) for name in ("p0", "p1")]
    decodes = [make.decode(name, (0, 0)) for name in ("d0", "d1")]
    core = with_reports(make.limits, *prefills, *decodes)
    core.submit([make.request(f"r{i}") for i in range(16)])
    decisions = core.plan()
    for attribute in ("prefill_engine", "decode_engine"):
        assert sorted(Counter(getattr(d, attribute) for d in decisions).values()) == [4] * 4
    assert sum(d.read_path is ReadPath.DE for d in decisions) == 8


@pytest.mark.parametrize("lacks", ["prefill", "hbm", "buffer"])
def test_what_waits_holds_nothing(make, lacks):
    full = {
        "prefill": [make.prefill(tokens=(9000,)), make.decode()],
        "hbm": [make.prefill(), make.decode(free_hbm=109)],
        "buffer": [make.prefill(), make.decode(free_buffer=99)],
    }[lacks]
    core = with_reports(make.limits, *full)
    core.submit([make.request("r0")])
    assert core.plan() == []
    groups = core.status()["groups"]
    for report in full:
        assert groups[report.group_id]["engines"] == [
            {name: getattr(load, name) for name in load._fields} for load in report.engines
        ]
        assert groups[report.group_id]["node"]["free_buffer_tokens"] == report.node.free_buffer_tokens
    for report in (make.prefill(), make.decode()):
        core.report(report)
    assert ids(core.plan()) == ["r0"]


def test_a_head_without_room_lets_nothing_of_its_group_pass(make):
    core = with_reports(make.limits, make.prefill(), make.decode("d0", free_hbm=500))
    core.submit([make.request("big", prompt=600), make.request("small")])
    assert core.plan() == []
    core.report(make.decode("d1", free_hbm=500))
    assert ids(core.plan()) == ["small"]  # the big one stays with d0, the small one is shared out to d1
    assert core.cancel("big") == (True, "")


def test_cancel_tells_waiting_from_bound(make):
    core = with_reports(make.limits, make.prefill())
    core.submit([make.request(f"r{i}") for i in range(3)])
    assert core.cancel("r0") == (True, "")
    core.report(make.decode(free_hbm=115))
    assert ids(core.plan()) == ["r1"]
    assert core.cancel("r2") == (True, "")
    assert core.cancel("r1") == (False, "d0/e0"), "its decode engine must be told"
    assert core.cancel("nobody") == (False, "")
    assert core.status()["num_waiting"] == 0


def test_cancelling_the_head_lets_the_next_go(make):
    core = with_reports(make.limits, make.prefill(), make.decode(free_hbm=200))
    core.submit([make.request("big", prompt=300), make.request("small")])
    assert core.plan() == []
    assert core.cancel("big") == (True, "")
    assert ids(core.plan()) == ["small"]


def test_a_submit_may_be_repeated(make):
    core = with_reports(make.limits, make.prefill(), make.decode())
    request = make.request("r0")
    core.submit([request, request])
    assert ids(core.plan()) == ["r0"]
    core.submit([request])
    assert core.plan() == []
    core.submit([replace(request, attempt=1)])
    assert [(d.request_id, d.attempt) for d in core.plan()] == [("r0", 1)]


def test_a_later_attempt_takes_the_place_of_one_that_waits(make):
    core = with_reports(make.limits, make.prefill(), make.decode(free_hbm=10))
    core.submit([make.request("r0"), make.request("r1")])
    assert core.plan() == []
    core.submit([make.request("r0", attempt=1), make.request("r1", attempt=0)])
    core.report(make.decode())
    assert [(d.request_id, d.attempt) for d in core.plan()] == [("r0", 1), ("r1", 0)]


def test_a_request_finished_may_come_again(make):
    core = with_reports(make.limits, make.prefill(), make.decode())
    core.submit([make.request("r0")])
    core.plan()
    core.report(make.decode(seen=1, finished=["r0"]))
    assert core.status()["num_bound"] == 0


def test_what_waited_for_a_dead_group_goes_elsewhere_in_its_place(make):
    core = with_reports(make.limits, make.prefill(), make.decode("d0", free_hbm=0), make.decode("d1", free_hbm=0))
    core.submit([make.request(f"r{i}") for i in range(6)])
    assert core.plan() == []
    core.remove_group("d0")
    core.report(make.decode("d1"))
    decisions = core.plan()
    assert ids(decisions) == [f"r{i}" for i in range(6)]
    assert {d.decode_group for d in decisions} == {"d1"}
    assert core.undelivered("d0", 0) == []
    core.remove_group("d0")


def test_a_group_that_comes_late_takes_its_share(make):
    core = with_reports(make.limits, make.prefill(), make.decode("d0", free_hbm=0))
    core.submit([make.request(f"r{i}") for i in range(4)])
    assert core.plan() == []
    core.report(make.decode("d1"))
    assert len(core.plan()) == 2


def test_a_dead_prefill_group_gets_nothing(make):
    core = with_reports(make.limits, make.prefill("p0"), make.prefill("p1", tokens=(4000,)), make.decode())
    core.remove_group("p0")
    core.submit([make.request("r0")])
    assert [d.prefill_group for d in core.plan()] == ["p1"]


def test_a_drained_group_gets_nothing_and_what_waited_for_it_keeps_its_place(make):
    core = with_reports(make.limits, make.prefill(), make.decode("d0", free_hbm=0), make.decode("d1", free_hbm=0))
    core.submit([make.request(f"r{i}") for i in range(6)])
    core.drain_group("d0")
    core.report(make.decode("d0"))
    assert core.plan() == [], "it has room, but takes nothing"
    core.report(make.decode("d1"))
    decisions = core.plan()
    assert ids(decisions) == [f"r{i}" for i in range(6)] and {d.decode_group for d in decisions} == {"d1"}
    core.drain_group("p0")
    core.submit([make.request("r6")])
    assert core.plan() == []
    core.undrain_group("p0")
    core.undrain_group("d0")
    assert [d.decode_group for d in core.plan()] == ["d0"]


def test_a_group_is_idle_when_nothing_is_bound_to_it(make):
    core = with_reports(make.limits, make.prefill(), make.decode())
    assert core.is_idle("p0") and core.is_idle("d0") and core.is_idle("never heard of")
    core.submit([make.request("r0")])
    core.plan()
    assert not core.is_idle("p0") and not core.is_idle("d0"), "decided, not yet fetched"
    core.report(make.prefill(tokens=(100,), seen=1))
    core.report(make.decode(tokens=(110,), seen=1))
    assert not core.is_idle("p0") and not core.is_idle("d0"), "reported as unfinished"
    core.report(make.prefill(seen=1))
    core.report(make.decode(seen=1))
    assert core.is_idle("p0") and not core.is_idle("d0"), "its end was not reported yet"
    core.report(make.decode(seen=1, finished=["r0"]))
    assert core.is_idle("d0")


def test_another_policy_holds_from_the_next_decision_on(make):
    core = with_reports(make.limits, make.prefill(read_queue=500), make.decode())
    for name, path in (("r0", ReadPath.DE), ("r1", ReadPath.PE)):
        core.submit([make.request(name)])
        (decision,) = core.plan()
        assert decision.read_path is path and replay(to_record(decision)) == decision
        core.set_policy(prefill_only)
    assert core.status()["policy"] == "prefill_only"


def test_numbers_go_on_where_the_scheduler_before_had_come_to(make):
    core = with_reports(make.limits, make.prefill(seen=41), make.decode(seen=17))
    core.submit([make.request("r0")])
    assert [d.seq for d in core.plan()] == [42]


def test_new_limits_hold_at_once(make):
    core = with_reports(make.limits, make.prefill(tokens=(6000,)), make.decode())
    core.submit([make.request("r0")])
    assert core.plan() == []
    core.set_limits(replace(make.limits, max_unfinished_tokens=6000))
    assert ids(core.plan()) == ["r0"]


def test_requests_without_a_hit_take_no_turn(make):
    core = with_reports(make.limits, make.prefill(), make.decode(), policy=round_robin)
    core.submit([make.request(f"r{i}", hit=hit) for i, hit in enumerate((50, 0, 50, 0, 50))])
    assert [d.read_path.value for d in core.plan()] == ["pe", "pe", "de", "pe", "pe"]
    assert core.status()["num_by_path"] == {"pe": 2, "de": 1}


def test_replay_answers_what_another_policy_would_have_chosen(make):
    core = with_reports(make.limits, make.prefill(read_queue=500), make.decode())
    core.submit([make.request("r0")])
    (decision,) = core.plan()
    assert decision.read_path is ReadPath.DE
    other = replay(to_record(decision), policy=prefill_only)
    assert other.read_path is ReadPath.PE
    assert (other.prefill_engine, other.decode_engine) == (decision.prefill_engine, decision.decode_engine)


def test_an_overtaken_report_does_not_bring_old_loads_back(make):
    idle, busy = make.decode("d0", (0, 0)), make.decode("d0", (900, 900))
    core = with_reports(make.limits, make.prefill(), replace(busy, number=2), replace(idle, number=1, finished=("x",)))
    in_order = with_reports(make.limits, make.prefill(), replace(idle, number=1), replace(busy, number=2))
    assert core.status()["groups"] == in_order.status()["groups"]
