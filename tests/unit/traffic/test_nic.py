"""A NIC direction: exact rate, order, and nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.traffic.nic_queue import NicQueue

KV = TrafficClass.KV_CACHE
RATE = 1000.0
arrivals = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 3000)), min_size=1, max_size=30)  # (gap before, bytes)
polls = st.lists(st.floats(0.001, 5), max_size=20)


def finish_all(queue: NicQueue) -> list:
    """Events until the queue is empty."""
    events = []
    while (at := queue.next_event_s()) is not None:
        events += queue.poll(at)
    return events


@given(arrivals, polls)
def test_transfers_keep_the_absolute_schedule_however_seldom_it_is_polled(arrivals, polls):
    queue, now, free_at, expected, events = NicQueue("n0/snic/in", RATE), 0.0, 0.0, [], []
    poll_at = sorted(polls)
    for mark, (gap, nbytes) in enumerate(arrivals):
        while poll_at and poll_at[0] <= now + gap:
            events += queue.poll(poll_at.pop(0))
        now += gap
        start = max(now, free_at)
        free_at = start + nbytes / RATE
        expected.append((mark, start, free_at))
        queue.submit(mark, nbytes, KV, now)
    events += finish_all(queue)
    starts = [(e.transfer, e.at_s) for e in events if not e.finished]
    ends = [(e.transfer, e.at_s) for e in events if e.finished]
    assert starts == [(mark, start) for mark, start, _ in expected]
    assert ends == [(mark, end) for mark, _, end in expected]


@given(arrivals, st.lists(st.floats(0, 100), max_size=20))
def test_bytes_and_busy_seconds_are_conserved(arrivals, times):
    queue, now, total = NicQueue("n0/snic/in", RATE), 0.0, 0
    for gap, nbytes in arrivals:
        now += gap
        total += nbytes
        queue.submit(None, nbytes, KV, now)
    busy_before = done_before = 0.0
    for at in sorted(now + t for t in times):
        queue.poll(at)
        busy, done = queue.busy_until(at)
        assert done == pytest.approx(busy * RATE) and done <= total + 1e-6
        assert busy >= busy_before - 1e-9 and done >= done_before - 1e-6
        assert queue.counters.done_bytes + queue.queued_bytes == total
        busy_before, done_before = busy, done
    finish_all(queue)
    assert queue.queued_bytes == 0
    assert queue.counters.done_bytes == queue.counters.bytes_by_class[KV] == total
    assert queue.counters.transfers == len(arrivals)
    assert queue.counters.busy_s == pytest.approx(total / RATE)


@given(st.integers(1, 200), st.integers(1, 5000))
def test_the_long_run_rate_is_exact_and_there_is_no_burst(count, nbytes):
    queue = NicQueue("n0/cnic0/out", RATE)
    for _ in range(count):
        queue.submit(None, nbytes, KV, 7.0)
    ends = [event.at_s for event in finish_all(queue) if event.finished]
    assert ends[-1] - 7.0 == pytest.approx(count * nbytes / RATE)
    for done, at in enumerate(ends, 1):
        assert done * nbytes <= (at - 7.0) * RATE * (1 + 1e-9)


def test_the_transfer_on_the_wire_counts_in_part():
    queue = NicQueue("n0/snic/in", RATE)
    queue.submit("a", 2000, KV, 10.0)
    assert [e.finished for e in queue.poll(10.0)] == [False]
    assert queue.busy_until(10.5) == (0.5, 500.0)
    assert queue.next_event_s() == 12.0
    assert queue.busy_until(99.0) == (2.0, 2000.0)  # not polled since: never more than the transfer
    queue.poll(12.0)
    assert queue.busy_until(99.0) == (2.0, 2000.0) and queue.next_event_s() is None


@pytest.mark.parametrize("charged", [True, False])
def test_without_a_rate_everything_is_through_at_once(charged):
    queue = NicQueue("n0/snic/in", RATE if not charged else None, charged)
    for mark in range(5):
        queue.submit(mark, 10**9, KV, 3.0)
    events = queue.poll(3.0)
    assert [(e.transfer, e.finished) for e in events] == [(m, f) for m in range(5) for f in (False, True)]
    assert queue.counters.done_bytes == (5 * 10**9 if charged else 0)  # the oracle charges nothing
    assert queue.busy_until(9.0)[0] == 0.0 and queue.queued_bytes == 0


def test_the_directions_of_a_nic_do_not_wait_for_each_other():
    nic = Nic("p0/snic", RATE, RATE / 2)
    nic[Direction.IN].submit("read", 1000, KV, 0.0)
    nic[Direction.OUT].submit("write", 1000, KV, 0.0)
    for direction in Direction:
        nic[direction].poll(0.0)
    assert (nic[Direction.IN].next_event_s(), nic[Direction.OUT].next_event_s()) == (1.0, 2.0)
    assert [q.name for q in nic.queues.values()] == ["p0/snic/in", "p0/snic/out"]


@given(arrivals)
def test_the_rate_of_a_real_link_is_reported_and_slows_nothing_down(arrivals):
    nic, now = Nic("p0/snic", None, None), 0.0
    nic.carried_by("eth1", RATE)
    queue = nic[Direction.IN]
    for mark, (gap, nbytes) in enumerate(arrivals):
        now += gap
        queue.submit(mark, nbytes, KV, now)
        assert [event.at_s for event in queue.poll(now)] == [now, now]
    busy, done = queue.busy_until(now)
    assert done == sum(nbytes for _, nbytes in arrivals)
    assert busy == pytest.approx(done / RATE)
    assert (queue.rate_bytes_per_s, queue.reported_bytes_per_s) == (None, RATE)


def test_what_no_device_carries_keeps_no_link_busy():
    nic = Nic("p0/cnic0", None, None)
    nic.carried_by("eth1", RATE)
    queue = nic[Direction.OUT]
    queue.submit("elsewhere", 300, KV, 0.0)
    queue.submit("here", 500, KV, 0.0, on_device=False)
    finish_all(queue)
    assert queue.busy_until(1.0) == (0.3, 800)


def test_an_emulated_rate_is_what_utilisation_is_a_share_of():
    nic = Nic("p0/snic", RATE, RATE / 2)
    nic.carried_by("eth1", 10 * RATE)
    assert [nic[way].reported_bytes_per_s for way in Direction] == [RATE, RATE / 2]
    queue = nic[Direction.IN]
    queue.submit(None, 500, KV, 0.0)
    finish_all(queue)
    assert queue.busy_until(1.0) == (0.5, 500)
