"""The number of requests in flight finds what a device rewards, and stays when the demand is what limits."""

from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.storage.depth import AdaptiveDepth

MIB = 1 << 20


def serve(depth, latency_s, most_bytes_per_s, num_requests, demand=None, nbytes=MIB):
    """Feed a device with up to ``depth`` requests at a time (``demand`` at most). Returns: (bytes/s, depths seen)."""
    now = free_s = 0.0
    in_flight = []
    depths = []
    for _ in range(num_requests):
        while len(in_flight) < min(depth.value, demand or depth.value):
            free_s = max(free_s, now) + nbytes / most_bytes_per_s  # the device's own pipe, after its latency
            heappush(in_flight, max(free_s, now + latency_s))
        now = heappop(in_flight)
        depth.done(nbytes, now, waiting=demand is None or demand > depth.value)
        depths.append(depth.value)
    return num_requests * nbytes / now, depths


@settings(deadline=None)
@given(
    st.floats(1e-4, 1e-2, allow_nan=False),  # latency of a request
    st.integers(1, 24),  # requests in flight that fill the pipe
)
def test_it_finds_what_fills_the_pipe(latency_s, knee):
    most = knee * MIB / latency_s
    depth = AdaptiveDepth(1, 64)
    serve(depth, latency_s, most, 3000)
    rate, depths = serve(depth, latency_s, most, 6000)
    assert rate > 0.85 * most
    assert sorted(depths)[len(depths) // 2] <= 2 * knee, "what waits in the device brings nothing"


@given(st.integers(1, 8), st.integers(0, 8), st.integers(1, 200))
def test_it_keeps_its_bounds(least, more, num_requests):
    depth = AdaptiveDepth(least, least + more)
    _, depths = serve(depth, 1e-3, 1e12, num_requests)
    assert all(least <= value <= least + more for value in depths)


def test_it_stays_while_the_demand_is_what_limits():
    depth = AdaptiveDepth(4, 64)
    _, depths = serve(depth, 1e-3, 1e12, 2000, demand=3)
    assert set(depths) == {4}


def test_it_goes_down_again_when_the_device_wants_fewer():
    depth = AdaptiveDepth(1, 64)
    serve(depth, 1e-2, 32 * MIB / 1e-2, 4000)
    assert depth.value >= 16
    _, depths = serve(depth, 1e-3, 2 * MIB / 1e-3, 20_000)
    assert min(depths[len(depths) // 2 :]) <= 4


def test_bounds_that_are_none_are_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="between 3 and 2"):
        AdaptiveDepth(3, 2)
