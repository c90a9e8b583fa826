"""The search for the highest rate within an SLO, against systems whose answer is known."""

from bisect import bisect_right
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.planning.online import Slo
from dualpath_ray.planning.steady import SteadyPoint
from dualpath_ray.planning.sustained import CLOSE_ENOUGH, search, strain

SLO = Slo(4.0, 0.05)
STEPS = 100


def system(capacity, step_s, sequence_s):
    """Turns per second at most; a step's time without and for each agent. What waits, waits for the first token."""

    def run(num_agents):
        tpot_s = step_s + sequence_s * num_agents
        ttft_s = max(0.2, num_agents / capacity - STEPS * tpot_s)
        rate = num_agents / (ttft_s + STEPS * tpot_s)
        return SteadyPoint(num_agents, rate, ttft_s, 0.0, tpot_s, tpot_s, 0.0, {"x": 1.0}, 0)

    return run


systems = st.builds(system, st.floats(5.0, 300.0), st.floats(0.001, 0.04), st.floats(1e-5, 1e-3))


@settings(deadline=None)
@given(run=systems, first=st.integers(1, 5000))
def test_it_finds_the_rate_that_just_keeps_the_slo(run, first):
    most = 20_000
    asked = []

    def counted(num_agents):
        asked.append(num_agents)
        return run(num_agents)

    found = search(counted, SLO, first, most)
    kept = bisect_right(range(1, most), 1, key=lambda n: strain(run(n), SLO))  # the most agents within the SLO
    if not kept:
        assert found.turns_per_s == 0 and strain(found.point, SLO) > 1
    else:
        low, high = (run(kept + more).turns_per_s for more in (0, 1))  # the limit lies between two whole agents
        assert 0.95 * low <= found.turns_per_s <= 1.05 * high
        assert strain(found.point, SLO) <= 1
    assert len(asked) == len(set(asked)) <= 20 and all(1 <= n <= most for n in asked)


def test_it_names_the_mean_that_breaks_first():
    assert search(system(1000.0, 0.001, 1e-4), SLO, 100, 10_000).breaks == "TPOT"
    assert search(system(20.0, 0.001, 1e-6), SLO, 100, 10_000).breaks == "TTFT"


def test_a_load_that_cannot_be_exceeded_is_the_answer():
    found = search(system(1000.0, 0.001, 1e-6), SLO, 10, 40)
    assert found.point.num_agents == 40 and found.turns_per_s == pytest.approx(found.point.turns_per_s)


def test_a_system_in_which_nothing_moves_sustains_nothing():
    found = search(lambda n: SteadyPoint(n, 0.0, inf, 0.0, 0.0, 0.0, 0.0, {"x": 0.0}, 0), SLO, 64, 1000)
    assert found.turns_per_s == 0 and found.point.num_agents == 1


@settings(deadline=None)
@given(run=systems)
def test_the_bracket_is_close(run):
    points = []

    def kept(num_agents):
        points.append(run(num_agents))
        return points[-1]

    search(kept, SLO, 100, 20_000)
    low = max((p.num_agents for p in points if strain(p, SLO) <= 1), default=0)
    high = min((p.num_agents for p in points if strain(p, SLO) > 1), default=None)
    assert high is None or high <= max(low + 1, CLOSE_ENOUGH * low)
