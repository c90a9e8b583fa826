"""Max-min fair sharing: against a plain simulation that works out every rate anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.fair_share import FairShare

jobs = st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 100)), min_size=1, max_size=12)
capacities = st.floats(0.5, 20)


def plain(jobs, capacity, cap):
    """End of each job: from change to change, everybody at ``min(cap, capacity / n)``."""
    left, ends, now = {}, {}, 0.0
    arrivals = sorted((start, number) for number, (start, _) in enumerate(jobs))
    while arrivals or left:
        if not left:
            now = max(now, arrivals[0][0])
        while arrivals and arrivals[0][0] <= now:
            number = arrivals.pop(0)[1]
            left[number] = jobs[number][1]
        rate = min(cap, capacity / len(left))
        step = min(left.values()) / rate
        if arrivals and arrivals[0][0] < now + step:
            step = arrivals[0][0] - now
        now += step
        for number in list(left):
            left[number] -= rate * step
            if left[number] <= 1e-9:
                del left[number]
                ends[number] = now
    return ends


def run(jobs, capacity, cap):
    loop = EventLoop()
    share = FairShare(loop, capacity, cap)
    ends = {}
    for number, (start_s, work) in enumerate(jobs):

        def begin(_, number=number, work=work):
            share.start(work, lambda n: ends.__setitem__(n, loop.now_s), number)

        loop.at(start_s, begin)
    loop.run()
    return ends, share, loop


@given(jobs, capacities, capacities)
def test_jobs_end_when_fair_rates_say(jobs, capacity, cap):
    ends, _, _ = run(jobs, capacity, cap)
    assert ends == pytest.approx(plain(jobs, capacity, cap), rel=1e-5, abs=1e-5)


@given(jobs, capacities, capacities)
def test_all_work_is_served_and_never_above_capacity_or_cap(jobs, capacity, cap):
    ends, share, loop = run(jobs, capacity, cap)
    assert share.served == pytest.approx(sum(work for _, work in jobs), rel=1e-6)
    assert share.served <= capacity * loop.now_s * (1 + 1e-6)
    for number, (start_s, work) in enumerate(jobs):
        assert ends[number] - start_s >= work / cap * (1 - 1e-6)


@given(jobs, capacities)
def test_equal_work_that_starts_first_ends_first(jobs, capacity):
    ends, _, _ = run([(start_s, 3.0) for start_s, _ in jobs], capacity, capacity)
    order = sorted(range(len(jobs)), key=lambda n: jobs[n][0])
    assert all(ends[a] <= ends[b] + 1e-6 for a, b in zip(order, order[1:], strict=False))


@given(st.floats(0.1, 10), st.floats(0.1, 0.9))
def test_a_cancelled_job_says_what_was_done_and_leaves_the_rest_to_others(work, share_done):
    loop = EventLoop()
    share = FairShare(loop, 1.0, 1.0)
    ends, done = [], []
    first = share.start(work, lambda _: ends.append("first"))
    share.start(work, lambda _: ends.append(loop.now_s))
    loop.at(2 * work * share_done, lambda _: done.append(share.cancel(first)))
    loop.run()
    assert done == pytest.approx([work * share_done])
    assert ends == pytest.approx([work + work * share_done])  # half the rate until then, all of it after
