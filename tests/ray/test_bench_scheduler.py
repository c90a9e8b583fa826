import pytest

from dualpath_ray.bench.actor import Rate, SchedulerBench

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    "rate",
    [None, Rate(200.0, interval_s=0.05, num_clients=2, prefill_s=0.05, decode_s=0.2)],
    ids=["saturated", "at a rate"],
)
def test_the_scheduler_is_measured_through_its_actor(rate):
    with SchedulerBench() as bench:
        figures = bench.measure((1, 2, 2), 0 if rate else 500, 1.0, rate)
    assert figures.assignments_per_s > 50
    assert 0 < figures.empty_call_p50_s <= figures.empty_call_p99_s
    assert 0 < figures.fetch_p50_s <= figures.fetch_p99_s
    assert 0 < figures.cores < 2 and figures.calls_per_s > 0
