"""The highest arrival rate of agents at which a system keeps an SLO (section 7.4): a search over loads, not over hours.

Arrivals are searched by the number of agents under way (``steady.py``): what is to be known of a rate takes a queue long to
settle, of a load a few turns. Both means grow with the load, so the search is a bisection. What is found can go on for
ever: a run from an empty cluster, whose agents are young and whose contexts are short, keeps the SLO at a rate up to a
tenth higher for the hour that it lasts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualpath_ray.planning.limits import rate_limits, tightest, unloaded_s
from dualpath_ray.planning.online import Slo
from dualpath_ray.planning.steady import MOST_AGENTS, Patience, SteadyPoint, measure
from dualpath_ray.planning.work import TurnWork
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.trajectory import TrajectoryLengths

CLOSE_ENOUGH = 1.2  # of two loads, the one within the SLO and the other not: between them the rate is nearly linear
_GIVE_UP = 1.5  # times the SLO, half way through: that load is too high, however it ends
_TTFT, _TPOT = "TTFT", "TPOT"


@dataclass(frozen=True, slots=True)
class Sustained:
    """The highest rate within the SLO: 0 when not even one agent gets what it promises."""

    turns_per_s: float
    point: SteadyPoint  # the highest load that was measured within the SLO, else the lowest outside
    breaks: str  # which mean passes its limit first when load grows: TTFT or TPOT


def strain(point: SteadyPoint, slo: Slo) -> float:
    """The worse of the two means over its limit: above 1 the SLO is broken."""
    return max(point.ttft_s / slo.ttft_s, point.tpot_s / slo.tpot_s)


def breaks_first(point: SteadyPoint, slo: Slo) -> str:
    """The mean that is nearer to its limit."""
    return _TTFT if point.ttft_s / slo.ttft_s >= point.tpot_s / slo.tpot_s else _TPOT


def next_load(points: Sequence[SteadyPoint], slo: Slo, first: int, most: int) -> int | None:
    """The number of agents to measure next; None: enough is known.

    Args: points: measured so far, in any order; first: where to begin; most: no load above it can be within the SLO.
    """
    first, most = max(1, min(first, most)), max(1, most)
    kept = max((p for p in points if strain(p, slo) <= 1), key=lambda p: p.num_agents, default=None)
    lost = min((p for p in points if strain(p, slo) > 1), key=lambda p: p.num_agents, default=None)
    if kept is None and lost is None:
        return first
    if kept is None:
        assert lost is not None
        return max(1, lost.num_agents // 4) if lost.num_agents > 1 else None
    if lost is None:
        return min(2 * kept.num_agents, most) if kept.num_agents < most else None
    low, high = kept.num_agents, lost.num_agents
    if high <= low + 1 or high <= CLOSE_ENOUGH * low:
        return None
    part = (1 - strain(kept, slo)) / (strain(lost, slo) - strain(kept, slo))
    width = high - low
    # Where the straight line crosses, but never at an end: TTFT bends upwards where something saturates.
    return min(high - 1, max(low + 1, round(low + width * min(0.8, max(0.2, part)))))


def sustained_of(points: Sequence[SteadyPoint], slo: Slo) -> Sustained:
    """What the points of a search say: the rate where the SLO is just kept."""
    kept = max((p for p in points if strain(p, slo) <= 1), key=lambda p: p.num_agents, default=None)
    lost = min((p for p in points if strain(p, slo) > 1), key=lambda p: p.num_agents, default=None)
    if kept is None:
        assert lost is not None
        return Sustained(0.0, lost, breaks_first(lost, slo))
    if lost is None:
        return Sustained(kept.turns_per_s, kept, breaks_first(kept, slo))
    part = (1 - strain(kept, slo)) / (strain(lost, slo) - strain(kept, slo))
    rate = kept.turns_per_s + part * max(0.0, lost.turns_per_s - kept.turns_per_s)
    return Sustained(rate, kept, breaks_first(lost, slo))


def search(run: Callable[[int], SteadyPoint], slo: Slo, first: int, most: int) -> Sustained:
    """Measure loads with ``run`` until the rate is known."""
    points: list[SteadyPoint] = []
    while (load := next_load(points, slo, first, most)) is not None:
        points.append(run(load))
    return sustained_of(points, slo)


def find_sustained(
    spec: ClusterSpec, trajectories: Sequence[TrajectoryLengths], work: TurnWork, slo: Slo, seed: int
) -> Sustained:
    """By simulation."""
    bound = tightest(rate_limits(spec, work, slo.tpot_s)).turns_per_s
    ttft_s, tpot_s = unloaded_s(spec, work)
    hint = (ttft_s, tpot_s)

    def run(num_agents: int) -> SteadyPoint:
        nonlocal hint
        patience = Patience(_GIVE_UP * slo.ttft_s, _GIVE_UP * slo.tpot_s)
        point = measure(spec, trajectories, work, num_agents, seed, patience, hint, slo.tpot_s)
        if point.turns_per_s:
            hint = (point.ttft_s, point.tpot_s)
        return point

    # Little's law: agents under way are the rate times the time of a turn, which no SLO lets grow beyond its two limits.
    longest_s = slo.ttft_s + work.steps * slo.tpot_s + work.delay_s
    most = min(MOST_AGENTS, 1 + round(1.2 * bound * longest_s))
    likely_s = min(slo.ttft_s, 2 * ttft_s) + work.steps * max(tpot_s, 0.8 * slo.tpot_s) + work.delay_s
    return search(run, slo, round(bound * likely_s), most)
