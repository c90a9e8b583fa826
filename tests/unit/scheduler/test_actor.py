import json
import pickle
import threading
import time
from dataclasses import replace

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.scheduler.actor import RequestScheduler
from dualpath_ray.scheduler.decision_log import replay, to_record

GROUPS = [("p0", Role.PREFILL), ("d0", Role.DECODE)]


@pytest.fixture
def scheduler(make):
    return RequestScheduler(make.limits, "scheduled", GROUPS)


def names(found):
    return [request.request_id for request, _ in found]


def test_nothing_is_planned_before_every_group_has_reported(make, scheduler):
    scheduler.submit([make.request("r0")])
    assert scheduler.fetch(make.decode(), 0.0) == []
    assert scheduler.status()["awaited_groups"] == ["p0"]
    assert names(scheduler.fetch(make.prefill(), 0.0)) == ["r0"]


def test_both_sides_get_it_until_their_reports_count_it(make, scheduler):
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    request = make.request("r0")
    scheduler.submit([request])
    for report in (make.prefill, make.decode):
        for _ in range(2):
            ((got, decision),) = scheduler.fetch(report(), 0.0)
            assert got is request and decision.seq == 1
        assert scheduler.fetch(report(seen=1), 0.0) == []


@pytest.mark.parametrize("cause", ["submit", "report of another group"])
def test_a_waiting_fetch_is_woken(make, scheduler, cause):
    scheduler.fetch(make.prefill(tokens=(9000,) if cause != "submit" else (0,)), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    if cause != "submit":
        scheduler.submit([make.request("r0")])
    found = []
    waiter = threading.Thread(target=lambda: found.extend(scheduler.fetch(make.decode(), 30.0)))
    waiter.start()
    time.sleep(0.05)
    assert waiter.is_alive()
    if cause == "submit":
        scheduler.submit([make.request("r0")])
    else:
        scheduler.fetch(make.prefill(), 0.0)
    waiter.join(10)
    assert names(found) == ["r0"]


def test_a_fetch_that_finds_nothing_comes_back_in_time(make, scheduler):
    start = time.monotonic()
    assert scheduler.fetch(make.prefill(), 0.05) == []
    assert 0.04 < time.monotonic() - start < 5


def test_the_log_has_the_inputs_and_the_wire_has_not(make, scheduler):
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    scheduler.submit([make.request(f"r{i}") for i in range(3)])
    records = [json.loads(json.dumps(to_record(decision))) for decision in scheduler.decisions(1)]
    assert [record["seq"] for record in records] == [2, 3]
    delivered = pickle.loads(pickle.dumps([decision for _, decision in scheduler.fetch(make.decode(), 0.0)]))
    assert [decision.inputs for decision in delivered] == [None] * 3
    again = replay(records[0])
    assert (again.request_id, again.read_path) == (delivered[1].request_id, delivered[1].read_path)


def test_the_log_is_bounded(make):
    scheduler = RequestScheduler(make.limits, "prefill_only", GROUPS, max_logged_decisions=2)
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    scheduler.submit([make.request(f"r{i}") for i in range(5)])
    assert [decision.seq for decision in scheduler.decisions(0)] == [4, 5]


def test_the_log_is_read_page_by_page(make, scheduler):
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    scheduler.submit([make.request(f"r{i}") for i in range(10)])
    pages, since = [], 0
    while page := scheduler.decisions(since, 4):
        pages.append([decision.seq for decision in page])
        since = pages[-1][-1]
    assert pages == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_the_log_holds_no_payload(make, scheduler):
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    scheduler.submit([make.request("r0")])
    ((request, _),) = scheduler.fetch_now(make.decode())
    assert request.payload is not None
    (decision,) = scheduler.decisions(0)
    assert decision.inputs.request == request and decision.inputs.request.payload is None


def test_a_queue_far_longer_than_a_slice_is_placed_at_once(make, scheduler):
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(tokens=(0,) * 8), 0.0)
    scheduler.set_limits(replace(make.limits, max_unfinished_tokens=10**9))
    scheduler.submit(make.request(f"r{i}") for i in range(500))
    assert names(scheduler.fetch_now(make.decode(tokens=(0,) * 8))) == [f"r{i}" for i in range(500)]


def test_what_goes_through_ray_comes_out_as_it_went_in(make, scheduler):
    request = replace(make.request("r0", samples=3), payload={"token_ids": b"123"})
    report = replace(make.decode(tokens=(3, 4), seen=7, finished=["x"]), number=5)
    for sent in (request, report, [request, report]):
        assert pickle.loads(pickle.dumps(sent)) == sent
    assert pickle.loads(pickle.dumps(request)).payload == request.payload
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.submit([request])
    found = scheduler.fetch_now(make.decode())
    again = pickle.loads(pickle.dumps(found))
    assert again == found and type(again) is list
    assert pickle.loads(pickle.dumps(scheduler.decisions(0))) == scheduler.decisions(0)


def test_cancel_limits_and_dead_groups_pass_through(make, scheduler):
    scheduler.fetch(make.prefill(tokens=(6000,)), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    scheduler.submit([make.request("r0"), make.request("r1")])
    assert scheduler.cancel("r0") == (True, "") and scheduler.cancel("r0") == (False, "")
    scheduler.set_limits(type(make.limits)(1000, 7000))
    assert [decision.request_id for decision in scheduler.decisions(0)] == ["r1"]
    scheduler.remove_group("p0")
    assert set(scheduler.status()["groups"]) == {"d0"}
    assert scheduler.ping()


def test_an_unknown_policy_is_refused(make):
    with pytest.raises(ConfigError, match=r"scheduler\.read_path"):
        RequestScheduler(make.limits, "fastest", GROUPS)


def test_all_is_decided_once_however_many_call_at_the_same_time(make):
    """A queue of many slices, while other threads submit, cancel and fetch: nothing is lost, told twice, or left."""
    scheduler = RequestScheduler(replace(make.limits, max_unfinished_tokens=10**9), "scheduled", GROUPS)
    decode = make.decode(tokens=(0,) * 8)
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(decode, 0.0)
    found: list[int] = []
    stop = threading.Event()

    def lead():
        seen = 0
        while not stop.is_set() or seen < found_total():
            for _, decision in scheduler.fetch(replace(decode, seen=seen), 0.5):
                found.append(decision.seq)
                seen = decision.seq

    def found_total():
        return scheduler.status()["num_decisions"]

    def submit(name):
        scheduler.submit(make.request(f"{name}{i}") for i in range(300))
        scheduler.cancel(f"{name}299")

    threads = [threading.Thread(target=lead), *(threading.Thread(target=submit, args=(name,)) for name in "abc")]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join(30)
    stop.set()
    threads[0].join(30)
    assert not any(thread.is_alive() for thread in threads)
    logged = [decision.request_id for decision in scheduler.decisions(0)]
    assert len(logged) == len(set(logged)) and found == list(range(1, len(logged) + 1))
    assert 897 <= len(logged) <= 900 and scheduler.status()["num_waiting"] == 0


def test_what_was_decided_before_a_policy_failed_is_not_lost(make, monkeypatch):
    scheduler = RequestScheduler(make.limits, "scheduled", GROUPS)
    policy = scheduler._core._policy

    def fails_at_the_third(inputs):
        if inputs.request.request_id == "r2":
            raise ValueError("no path")
        return policy(inputs)

    monkeypatch.setattr(scheduler._core, "_policy", fails_at_the_third)
    scheduler.fetch(make.prefill(), 0.0)
    scheduler.fetch(make.decode(), 0.0)
    with pytest.raises(ValueError, match="no path"):
        scheduler.submit([make.request(f"r{i}") for i in range(4)])
    assert [decision.request_id for decision in scheduler.decisions(0)] == ["r0", "r1"]
