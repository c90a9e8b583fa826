"""What a split is judged by: the arrival rate that it sustains within an SLO, or the time that a job takes on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dualpath_ray.observability.format import seconds
from dualpath_ray.planning.limits import compute_limits, rate_limits, tightest, unloaded_s
from dualpath_ray.planning.load_curve import first_turns, job_of, job_s, later_parts
from dualpath_ray.planning.online import Slo
from dualpath_ray.planning.steady import MOST_AGENTS, SteadyPoint, measure
from dualpath_ray.planning.sustained import find_sustained
from dualpath_ray.planning.work import TurnWork, turn_work
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.trajectory import TrajectoryLengths

PARTS = 2  # of a job
LOADS = (16, 4, 1)  # agents are this many times fewer


@dataclass(frozen=True, slots=True)
class Bound:
    """The best that a split can do, whatever the scheduler: by the resource that allows least.

    ``refused``: why it cannot do at all, in words; empty when it can. ``strain``: then, how many times over the SLO.
    """

    value: float
    resource: str
    refused: str = ""
    strain: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulated system does. ``breaks``: the mean that passes the SLO first, online."""

    value: float  # agents per second, or the job's seconds
    num_agents: int  # under way, of the cluster that was simulated
    ttft_s: float
    tpot_s: float
    busy: dict[str, float]
    breaks: str = ""

    @property
    def busiest(self) -> tuple[str, float]:
        """The resource that is used most, and the share of it."""
        name = max(self.busy, key=lambda resource: self.busy[resource])
        return name, min(1.0, self.busy[name])


class Objective(Protocol):
    """``scale``: clusters of the size that is simulated, side by side in the one that is planned."""

    unit: str

    def score(self, value: float) -> float:
        """Of a value, for comparison: more is better."""
        ...

    def words(self, value: float) -> str: ...

    def bound(self, spec: ClusterSpec, scale: float) -> Bound: ...

    def run(self, spec: ClusterSpec, scale: float) -> Outcome: ...


class SustainedRate:
    """Arriving agents per second, as many as keep the means of TTFT and TPOT within the SLO (section 7.4)."""

    unit = "agents/s"

    def __init__(self, trajectories: Sequence[TrajectoryLengths], work: TurnWork, slo: Slo, seed: int) -> None:
        self._trajectories, self._work, self.slo, self._seed = trajectories, work, slo, seed

    def score(self, value: float) -> float:
        return value

    def words(self, value: float) -> str:
        return f"{value:.3g} agents/s"

    def bound(self, spec: ClusterSpec, scale: float) -> Bound:
        ttft_s, tpot_s = unloaded_s(spec, self._work)
        if ttft_s > self.slo.ttft_s:
            over = ttft_s / self.slo.ttft_s
            return Bound(0.0, "TTFT", f"the first token of a turn that is alone takes {seconds(ttft_s)}", over)
        if tpot_s > self.slo.tpot_s:
            over = tpot_s / self.slo.tpot_s
            return Bound(0.0, "TPOT", f"a decode step of one sequence alone takes {seconds(tpot_s)}", over)
        limit = tightest(rate_limits(spec, self._work, self.slo.tpot_s))
        return Bound(limit.turns_per_s * scale / self._work.turns, limit.resource)

    def run(self, spec: ClusterSpec, scale: float) -> Outcome:
        found = find_sustained(spec, self._trajectories, self._work, self.slo, self._seed)
        point = found.point
        return Outcome(
            value=min(found.turns_per_s * scale / self._work.turns, self.bound(spec, scale).value),  # short runs err
            num_agents=point.num_agents,
            ttft_s=point.ttft_s,
            tpot_s=point.tpot_s,
            busy=point.busy,
            breaks=found.breaks,
        )


class JobTime:
    """Seconds until agents that start at once have all ended (section 7.3)."""

    unit = "s"

    def __init__(self, trajectories: Sequence[TrajectoryLengths], work: TurnWork, num_agents: int, seed: int) -> None:
        self._trajectories, self._work, self.num_agents, self._seed = trajectories, work, num_agents, seed

    def score(self, value: float) -> float:
        return 1 / value if value else 0.0

    def words(self, value: float) -> str:
        return seconds(value)

    def bound(self, spec: ClusterSpec, scale: float) -> Bound:
        limit = tightest(rate_limits(spec, self._work))
        return Bound(self.num_agents * self._work.turns / limit.turns_per_s / scale, limit.resource)

    def run(self, spec: ClusterSpec, scale: float) -> Outcome:
        num_agents = max(1, round(self.num_agents / scale))
        first = Simulation(spec, first_turns(self._trajectories))
        first.offline(num_agents)
        parts = [part for part in later_parts(self._trajectories, PARTS) if any(t.turns for t in part)]
        curves = [self._curve(spec, part, num_agents) for part in parts]
        begun_s = first.record("first turns").jct_s
        if not curves:  # of one turn each
            ttft_s, tpot_s = (float(first.turns.column(name).mean()) for name in ("ttft_s", "tpot_s"))
            limits = compute_limits(spec, self._work)
            busy = {name: num_agents / begun_s / limit for name, limit in limits.items()}
            return Outcome(begun_s, num_agents, ttft_s, tpot_s, busy)
        fullest = [curve[-1] for curve in curves]
        took_s = begun_s + job_s(curves, job_of(parts, num_agents, spec.delays.turn_s))
        return Outcome(
            value=max(took_s, self.bound(spec, scale).value),  # short runs err
            num_agents=num_agents,
            ttft_s=_mean([p.ttft_s for p in fullest]),
            tpot_s=_mean([p.tpot_s for p in fullest]),
            busy={name: _mean([p.busy.get(name, 0.0) for p in fullest]) for name in fullest[0].busy},
        )

    def _curve(self, spec: ClusterSpec, part: Sequence[TrajectoryLengths], num_agents: int) -> list[SteadyPoint]:
        """Points of one part of the job, the lowest load first."""
        turns = [t for t in part if t.turns]
        work = turn_work(turns, spec)
        points: list[SteadyPoint] = []
        for load in sorted({max(1, num_agents // fewer) for fewer in LOADS}):
            hint = (points[-1].ttft_s, points[-1].tpot_s) if points and points[-1].turns_per_s else None
            points.append(measure(spec, turns, work, load, self._seed, hint=hint))
        return points


def saturating_agents(spec: ClusterSpec, work: TurnWork, scale: float) -> int:
    """A power of two: some two to four times as many agents as keep the tightest resource busy, were each alone.

    By Little's law: the highest rate of turns times what a turn takes without load.
    """
    ttft_s, tpot_s = unloaded_s(spec, work)
    rate = tightest(rate_limits(spec, work)).turns_per_s * scale
    wanted = 2 * rate * (ttft_s + work.steps * tpot_s + work.delay_s)
    return 2 ** round(min(wanted, scale * MOST_AGENTS / 2)).bit_length()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
