"""Transfers whose ends are told ahead: what is told stays so whatever comes later, and it costs nobody a byte."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_shares import shares, starvation_bound
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.traffic.nic_queue import AHEAD_S, LEAD_S, NicQueue

MODEL, URGENT, KV = TrafficClass.MODEL_EXECUTION, TrafficClass.KV_URGENT, TrafficClass.KV_CACHE
LANES = CnicLanes().lanes
SAME = CnicLanes(service_levels={MODEL: 2, URGENT: 2, KV: 2}).lanes
PACKET = LANES.packet_bytes
RATE = 2e9
MS = int(RATE * 1e-3)  # bytes in a millisecond
arrivals = st.lists(
    st.tuples(
        st.floats(0, 5e-3),
        st.one_of(st.integers(1, 5 * MS), st.integers(1, 3 * PACKET), st.integers(1, 3)),
        st.sampled_from([MODEL, URGENT, KV]),
        st.none() | st.floats(0, 0.02),  # when what is no collective becomes urgent, after it came
    ),
    min_size=1,
    max_size=12,
)
polls = st.lists(st.floats(0, 0.05), max_size=20)
lanes = st.sampled_from([LANES, SAME, None])


class Direction:
    """A queue, and what it told: (mark, finished) -> (when, told at)."""

    def __init__(self, lanes):
        self.queue, self.now, self.told = NicQueue("n0/cnic0/out", RATE, lanes=lanes), 0.0, {}

    def poll(self, at_s):
        self.now = max(self.now, at_s)
        for event in self.queue.poll(self.now):
            assert (event.transfer, event.finished) not in self.told, "each is told once"
            self.told[event.transfer, event.finished] = (event.at_s, self.now)
        assert sum(self.queue.counters.bytes_by_class.values()) == self.queue.counters.done_bytes

    def submit(self, mark, nbytes, traffic_class, at_s, urgent_after_s):
        self.now = max(self.now, at_s)
        if traffic_class is MODEL:
            self.queue.submit_ahead(mark, nbytes, traffic_class, at_s, at_s)
        else:
            urgent_at_s = None if urgent_after_s is None else at_s + urgent_after_s
            self.queue.submit(mark, nbytes, traffic_class, at_s, urgent_at_s=urgent_at_s)

    def look(self, until_s=float("inf")):
        """As its owner does: whenever it says so."""
        while (at := self.queue.next_event_s()) is not None and at < until_s:
            self.poll(at)


def run(lanes, arrivals, polls, looks=True):
    """Args: looks: as often as the queue says, else only at ``polls`` until all are here."""
    direction, now, polls = Direction(lanes), 0.0, sorted(polls)
    for mark, (gap, *transfer, urgent_after_s) in enumerate(arrivals):
        now += gap
        while polls and polls[0] < now:
            direction.poll(polls.pop(0))
        if looks:
            direction.look(now)
        direction.submit(mark, *transfer, now, urgent_after_s)
    direction.look()
    return direction


@given(lanes, arrivals, polls)
def test_the_schedule_does_not_depend_on_when_it_is_looked_at(lanes, arrivals, polls):
    often, seldom = run(lanes, arrivals, polls), run(lanes, arrivals, [], looks=False)
    assert {key: at for key, (at, _) in often.told.items()} == {key: at for key, (at, _) in seldom.told.items()}


@given(lanes, arrivals, arrivals)
def test_a_told_end_is_the_end_whatever_comes_later(lanes, before, later):
    """No time is made up either: the lanes together take as long as one would, and nobody is faster than the link."""
    told, both = run(lanes, before, []), run(lanes, [*before, *later], [])
    arrived = sum(gap for gap, *_ in before) + later[0][0]  # the first of those that come later
    for (mark, finished), (at_s, told_s) in told.told.items():
        if before[mark][2] is MODEL and told_s < arrived:
            assert both.told[mark, finished] == (at_s, told_s)
    now, free_at = 0.0, 0.0
    for mark, (gap, nbytes, *_) in enumerate([*before, *later]):
        now += gap
        free_at = max(free_at, now) + nbytes / RATE
        start, end = both.told[mark, False][0], both.told[mark, True][0]
        assert now - 1e-9 <= start <= end - nbytes / RATE + 1e-9
    assert max(at for at, _ in both.told.values()) == pytest.approx(free_at)


@given(lanes, arrivals)
def test_it_is_told_as_long_ahead_as_it_is_decided(lanes, arrivals):
    direction, now = run(lanes, arrivals, []), 0.0
    for mark, (gap, _, traffic_class, _) in enumerate(arrivals):
        now += gap
        at_s, told_s = direction.told[mark, True]
        if traffic_class is MODEL:
            assert told_s <= max(now, at_s - AHEAD_S) + 1e-9
        else:
            assert told_s >= at_s, "what else goes over the wire is told when it is through"


@given(st.integers(1, 20 * MS), st.floats(0.0, 0.015), st.sampled_from([URGENT, KV]))
def test_who_comes_meanwhile_waits_for_what_is_decided_and_no_longer(nbytes, at_s, traffic_class):
    """After that it shares the link as the tables say."""
    direction = Direction(LANES)
    direction.submit("burst", nbytes, MODEL, 0.0, None)
    direction.look(at_s)
    direction.submit("kv", PACKET, traffic_class, at_s, None)
    direction.look()
    bound = starvation_bound(LANES.tables, LANES.lane(traffic_class), PACKET, PACKET) + 2 * PACKET
    assert direction.told["kv", False][0] - at_s <= LEAD_S + bound / RATE
    assert direction.told["kv", False][0] <= max(at_s, nbytes / RATE) + 1e-9


@settings(max_examples=20)
@given(st.sets(st.sampled_from([URGENT, KV]), min_size=1))
def test_full_lanes_share_as_the_tables_say(others):
    direction, total = Direction(LANES), 12_000 * PACKET
    for traffic_class in (*sorted(others), MODEL):
        direction.submit(traffic_class, total, traffic_class, 0.0, None)
    expected = shares(LANES.tables, {LANES.lane(c): PACKET for c in (*others, MODEL)})
    direction.look()
    first = total / float(expected[LANES.lane(MODEL)]) / RATE
    assert direction.told[MODEL, True][0] == pytest.approx(first, rel=2e-3)


def test_it_arrives_when_it_was_posted():
    idle = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    assert idle.submit_ahead("burst", MS, MODEL, 1.0, 1.5).arrived_s == 1.0
    assert [(e.finished, e.at_s) for e in idle.poll(1.5)] == [(False, 1.0), (True, 1.001)]
    loaded = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    loaded.submit("kv", 100 * MS, KV, 1.0)
    loaded.poll(1.05)
    loaded.submit_ahead("burst", MS, MODEL, 1.02, 1.05)
    start, end = loaded.poll(1.05)
    assert 1.02 <= start.at_s <= 1.02 + PACKET / RATE and end.at_s == pytest.approx(start.at_s + 0.001, abs=1e-5)


def test_but_not_before_what_is_decided_and_not_ahead_of_now():
    queue = NicQueue("n0/cnic0/out", RATE, lanes=LANES)
    queue.submit("first", 20 * MS, KV, 1.0)
    queue.submit("second", 20 * MS, KV, 1.0)
    assert [e.at_s for e in queue.poll(1.025)] == [1.0, pytest.approx(1.02), pytest.approx(1.02)]
    assert queue.submit_ahead("burst", MS, MODEL, 1.01, 1.025).arrived_s == pytest.approx(1.02)
    assert queue.poll(1.025)[0].at_s == pytest.approx(1.02)
    assert queue.submit_ahead("next", MS, MODEL, 9.0, 1.026).arrived_s == 1.026


@given(lanes, arrivals, polls)
def test_what_is_busy_never_becomes_less(lanes, arrivals, polls):
    """Though bursts are decided ahead, and posted before somebody looked."""
    direction, now, busy = Direction(lanes), 0.0, [(0.0, 0.0)]
    for mark, (gap, *transfer, urgent_after_s) in enumerate(arrivals):
        now += gap
        direction.poll(now)
        busy.append(direction.queue.busy_until(now))
        if transfer[1] is MODEL:
            direction.queue.submit_ahead(mark, *transfer, now - 1e-3, now)
        else:
            direction.submit(mark, *transfer, now, urgent_after_s)
    for at_s in sorted(now + poll for poll in polls):
        busy.append(direction.queue.busy_until(at_s))
    direction.look()
    busy.append(direction.queue.busy_until(direction.now + 1.0))
    assert busy[-1][0] == pytest.approx(sum(nbytes for _, nbytes, *_ in arrivals) / RATE)
    assert all(a[0] <= b[0] + 1e-9 and a[1] <= b[1] + 1 for a, b in pairwise(busy))
