"""Lanes of an emulated NIC: the arbiter's shares, no time lost, and the same schedule however seldom it is polled."""

import weakref
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_shares import shares
from dualpath_ray.config.fabric import CnicLanes, SnicLanes
from dualpath_ray.traffic.nic_queue import NicQueue

MODEL, URGENT, KV = TrafficClass.MODEL_EXECUTION, TrafficClass.KV_URGENT, TrafficClass.KV_CACHE
LANES = CnicLanes().lanes
PACKET = LANES.packet_bytes
RATE = 1e6
arrivals = st.lists(
    st.tuples(st.floats(0, 0.3), st.integers(1, 60_000), st.sampled_from([MODEL, URGENT, KV])), min_size=1, max_size=25
)
polls = st.lists(st.floats(0, 3), max_size=25)


def finish_all(queue):
    """Events until the queue is empty."""
    events = []
    while (at := queue.next_event_s()) is not None:
        events += queue.poll(at)
    return events


def run(arrivals, polls):
    """(queue, events) of these arrivals, polled at these times besides."""
    queue, now, events, times = NicQueue("n0/cnic0/out", RATE, lanes=LANES), 0.0, [], sorted(polls)
    for mark, (gap, nbytes, traffic_class) in enumerate(arrivals):
        now += gap
        while times and times[0] < now:
            events += queue.poll(times.pop(0))
        queue.submit(mark, nbytes, traffic_class, now)
    return queue, events + finish_all(queue)


@given(arrivals, polls, polls)
def test_the_schedule_does_not_depend_on_when_it_is_looked_at(arrivals, seldom, often):
    assert run(arrivals, seldom)[1] == run(arrivals, often)[1]


@given(arrivals, polls)
def test_the_link_is_never_idle_while_somebody_waits_and_never_faster_than_its_rate(arrivals, polls):
    queue, events = run(arrivals, polls)
    ends = [event.at_s for event in events if event.finished]
    assert ends == sorted(ends) and len(ends) == len(arrivals)
    now, free_at = 0.0, 0.0
    for gap, nbytes, _ in arrivals:
        now += gap
        free_at = max(free_at, now) + nbytes / RATE
    assert ends[-1] == pytest.approx(free_at), "the lanes together take as long as one would"
    assert queue.counters.done_bytes == sum(nbytes for _, nbytes, _ in arrivals)
    by_class = Counter()
    for _, nbytes, traffic_class in arrivals:
        by_class[traffic_class] += nbytes
    assert queue.counters.bytes_by_class == by_class
    assert queue.busy_until(ends[-1])[0] == pytest.approx(sum(by_class.values()) / RATE)


@given(arrivals, st.floats(0, 1))
def test_what_is_queued_is_told_by_class(arrivals, at):
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    for mark, (_, nbytes, traffic_class) in enumerate(arrivals):
        transfer = queue.submit(mark, nbytes, traffic_class, 0.0)
        if mark % 3 == 0 and traffic_class is KV:
            queue.hurry(transfer, at / 2, 0.0)
    queue.poll(at)
    assert sum(queue.queued_by_class().values()) == queue.queued_bytes
    assert set(queue.queued_by_class()) <= set(queue.lanes())


@given(arrivals, polls)
def test_a_lane_keeps_its_order_and_a_start_comes_before_its_end(arrivals, polls):
    _, events = run(arrivals, polls)
    started, ended = {}, {}
    for event in events:
        (ended if event.finished else started)[event.transfer] = event.at_s
    arrived = 0.0
    for mark, (gap, nbytes, _) in enumerate(arrivals):
        arrived += gap
        assert arrived - 1e-9 <= started[mark] <= ended[mark] - nbytes / RATE + 1e-9
    for lane in (MODEL, URGENT, KV):
        marks = [mark for mark, (_, _, traffic_class) in enumerate(arrivals) if traffic_class is lane]
        assert [m for m in ended if m in marks] == marks


@settings(max_examples=20)
@given(st.sets(st.sampled_from([MODEL, URGENT, KV]), min_size=2))
def test_full_lanes_share_as_the_tables_say(classes):
    queue, total = NicQueue("n0/cnic0/out", RATE, lanes=LANES), 12_000 * PACKET
    for traffic_class in sorted(classes):
        queue.submit(traffic_class, total, traffic_class, 0.0)
    expected = shares(LANES.tables, {LANES.lane(c): PACKET for c in classes})
    first = min(total / float(expected[LANES.lane(c)]) for c in classes) / RATE  # when the first lane is empty
    ends = {event.transfer: event.at_s for event in finish_all(queue) if event.finished}
    assert min(ends.values()) == pytest.approx(first, rel=2e-3)
    assert queue.counters.done_bytes == len(classes) * total


def test_the_low_lane_has_the_whole_link_while_the_high_one_is_idle():
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    queue.submit("kv", 500_000, KV, 1.0)
    assert [event.at_s for event in finish_all(queue)] == [1.0, 1.5]


@given(st.floats(0.01, 0.9), st.integers(1, 30_000))
def test_a_collective_waits_for_no_more_than_the_packet_on_the_wire(at_s, nbytes):
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    queue.submit("kv", 1_000_000, KV, 0.0)
    queue.submit("collective", nbytes, MODEL, at_s)
    times = {(e.transfer, e.finished): e.at_s for e in finish_all(queue)}
    assert times["collective", False] - at_s <= PACKET / RATE + 1e-9
    assert times["collective", True] - at_s <= (PACKET + nbytes) / RATE + 1e-9
    assert times["kv", True] == pytest.approx((1_000_000 + nbytes) / RATE)


def test_in_one_lane_it_waits_for_all_that_came_before():
    same = CnicLanes(service_levels={MODEL: 2, URGENT: 2, KV: 2}).lanes
    queue = NicQueue("n0/cnic0/out", RATE, lanes=same)
    queue.submit("kv", 1_000_000, KV, 0.0)
    queue.submit("collective", 10_000, MODEL, 0.1)
    times = {e.transfer: e.at_s for e in finish_all(queue) if e.finished}
    assert times == {"kv": 1.0, "collective": pytest.approx(1.01)}


@given(st.floats(0.0, 1.9), st.booleans())
def test_what_is_hurried_goes_on_in_the_other_lane_with_what_is_left(at_s, told_before):
    """Its own lane is full of others' KV, and the high one of collectives."""
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    _, urgent, _ = (queue.submit(mark, 1_000_000, KV, 0.0) for mark in ("first", "urgent", "last"))
    queue.submit("collectives", 1_000_000, MODEL, 0.0)
    events = []
    if told_before:
        queue.hurry(urgent, at_s, 0.0)
    else:
        events = queue.poll(at_s)
        queue.hurry(urgent, at_s, at_s)
    events += finish_all(queue)
    ends = {e.transfer: e.at_s for e in events if e.finished}
    assert [e.transfer for e in events if not e.finished].count("urgent") == 1, "it starts once"
    assert ends["urgent"] < ends["first"] or at_s > 1.0
    assert ends["urgent"] < ends["last"] and max(ends.values()) == pytest.approx(4.0)
    assert queue.counters.bytes_by_class == {KV: 2_000_000, URGENT: 1_000_000, MODEL: 1_000_000}
    assert queue.counters.promoted == 1


def test_who_is_late_already_gets_no_time_that_is_over():
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    queue.submit("first", 1_000_000, KV, 0.0)
    late = queue.submit("late", 400_000, KV, 0.0)
    events = queue.poll(0.5)
    queue.hurry(late, -1.0, 0.5)
    times = {(e.transfer, e.finished): e.at_s for e in events + finish_all(queue)}
    assert 0.5 <= times["late", False] <= 0.5 + PACKET / RATE
    assert times["late", True] == pytest.approx(times["late", False] + 0.4)
    assert times["first", True] == pytest.approx(1.4)


@pytest.mark.parametrize("looked_at", [True, False])
def test_nor_does_who_comes_to_an_idle_link(looked_at):
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    queue.submit("before", 1000, KV, 3.0)
    finish_all(queue)
    late = queue.submit("late", 1_000_000, KV, 10.0)
    if looked_at:
        queue.poll(10.0)
    queue.hurry(late, 2.0, 10.0)
    assert [e.at_s for e in finish_all(queue) if e.finished] == [11.0]


def test_what_is_through_is_not_hurried_and_not_kept():
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    done = queue.submit("kv", 1000, KV, 0.0, urgent_at_s=3600.0)
    assert len(finish_all(queue)) == 2
    queue.hurry(done, 0.5, 1.0)
    assert queue.next_event_s() is None and queue.counters.promoted == 0, "nobody waits an hour for it"


@given(st.integers(100, 300))
def test_what_has_ended_is_not_kept_until_its_time_would_come(number):
    queue, marks = NicQueue("n0/cnic0/out", RATE, lanes=LANES), []
    for index in range(number):
        mark = Mark()
        marks.append(weakref.ref(mark))
        queue.submit(mark, 10, KV, float(index), urgent_at_s=1e6)
        del mark
        queue.poll(index + 0.5)
    assert sum(ref() is not None for ref in marks) <= 66


class Mark:
    """Something that can be referred to weakly."""


hurried = st.lists(
    st.tuples(st.floats(0, 0.3), st.integers(0, 60_000), st.sampled_from([MODEL, KV]), st.none() | st.floats(0, 3)),
    min_size=1,
    max_size=20,
)


@given(hurried, polls)
def test_nothing_is_lost_whatever_is_hurried_when(arrivals, polls):
    """Also transfers without a byte; and what is busy never becomes less."""

    def run(times):
        queue, now, events, busy = NicQueue("n0/cnic0/out", RATE, lanes=LANES), 0.0, [], [(0.0, 0.0)]
        times = sorted(times)
        for mark, (gap, nbytes, traffic_class, urgent_at_s) in enumerate(arrivals):
            now += gap
            while times and times[0] < now:
                events += queue.poll(times[0])
                busy.append(queue.busy_until(times.pop(0)))
            queue.submit(mark, nbytes, traffic_class, now, urgent_at_s=urgent_at_s)
        steps = 0
        while (at := queue.next_event_s()) is not None:
            now = max(now, at)  # times never decrease
            events += queue.poll(now)
            busy.append(queue.busy_until(now))
            steps += 1
            assert steps < 5000
        return queue, events, busy

    queue, events, busy = run(polls)
    assert run([])[1] == events
    assert sorted(e.transfer for e in events if e.finished) == list(range(len(arrivals)))
    total = sum(nbytes for _, nbytes, _, _ in arrivals)
    assert queue.counters.done_bytes == total and queue.queued_bytes == 0
    assert busy[-1][0] == pytest.approx(total / RATE)
    assert all(a[0] <= b[0] + 1e-9 and a[1] <= b[1] + 1e-3 for a, b in pairwise(busy))


@given(st.integers(4096, 60_000), st.floats(0.0, 0.5))
def test_a_burst_is_not_looked_at_after_its_end(nbytes, at_s):
    """Though it has not started when somebody asks when to look."""
    queue = NicQueue("n0/cnic0/in", RATE, lanes=LANES)
    queue.submit("kv", 1_000_000, KV, 0.0)
    queue.poll(0.0)
    queue.submit("burst", nbytes, MODEL, at_s)
    ends = []
    while not ends:
        at = queue.next_event_s()
        ends = [event.at_s for event in queue.poll(at) if event.finished]
    assert ends == [pytest.approx(at)], "somebody looked just then"


def test_a_class_that_nobody_configured_is_refused():
    queue = NicQueue("p0/snic/in", RATE, lanes=SnicLanes().lanes)
    with pytest.raises(ConfigError, match="fabric: service_levels has none for model_execution"):
        queue.submit("collective", 1000, MODEL, 0.0)


def test_reads_that_are_waited_for_go_before_scrubbing_and_scrubbing_goes_on():
    lanes = SnicLanes().lanes
    found = shares(lanes.tables, {lanes.lane(c): lanes.packet_bytes for c in (KV, TrafficClass.SCRUB)})
    assert found[lanes.lane(KV)] > Fraction(99, 100) and found[lanes.lane(TrafficClass.SCRUB)] > 0
