"""The clock of the simulator."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.simulator.events import EventLoop

times = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(times, max_size=40))
def test_events_come_in_order_of_time_and_of_asking(asked):
    loop, seen = EventLoop(), []
    for number, time_s in enumerate(asked):
        loop.at(time_s, lambda n: seen.append((loop.now_s, n)), number)
    loop.run()
    assert seen == sorted((time_s, number) for number, time_s in enumerate(asked))


@given(st.lists(times, min_size=1, max_size=40), times)
def test_a_run_ends_where_it_is_told_to_and_can_go_on(asked, until_s):
    loop, seen = EventLoop(), []
    for time_s in asked:
        loop.at(time_s, seen.append, time_s)
    loop.run(until_s)
    assert seen == sorted(t for t in asked if t <= until_s)
    loop.run()
    assert sorted(seen) == sorted(asked)


def test_nothing_is_asked_for_in_the_past():
    loop = EventLoop()
    loop.at(2.0, lambda _: loop.at(1.0, lambda _: None))
    with pytest.raises(ValueError, match="at 1.0 s was asked for at 2.0 s"):
        loop.run()
