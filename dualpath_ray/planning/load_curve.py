"""How long a job takes, from what a system does under a few loads in each part of it. Pure arithmetic.

Contexts grow while a job runs: early on it computes, later it loads, and a mean over both would hide what binds when. So
the trajectories of a job are cut into parts with points of their own. Points are in order of ``num_agents``; between
them times are linear in it, which they are exactly once something is saturated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualpath_ray.planning.steady import SteadyPoint
from dualpath_ray.workload.trajectory import TrajectoryLengths

_STEPS = 400  # of the integration over a job, about: so many times some agents go on to their next part


@dataclass(frozen=True, slots=True)
class Job:
    """What each agent has to do in each part, [parts, agents]."""

    turns: np.ndarray
    steps: np.ndarray  # of decode: the first token of a turn comes from prefill
    delays_s: np.ndarray  # from turn to turn


def first_turns(trajectories: Sequence[TrajectoryLengths]) -> list[TrajectoryLengths]:
    """Where nothing is stored yet: all agents of a job begin with them together."""
    return [TrajectoryLengths(t.trajectory_id, t.turns[:1], t.stored_tokens) for t in trajectories]


def later_parts(trajectories: Sequence[TrajectoryLengths], num_parts: int) -> list[list[TrajectoryLengths]]:
    """The turns that follow, in parts of as many turns each: [parts][trajectories]. A short trajectory's may be empty."""
    parts = []
    for part in range(num_parts):
        cut = []
        for t in trajectories:
            start, stop = (1 + (len(t.turns) - 1) * i // num_parts for i in (part, part + 1))
            stored = t.stored_tokens + sum(append + gen for append, gen, _ in t.turns[:start])
            cut.append(TrajectoryLengths(t.trajectory_id, t.turns[start:stop], stored))
        parts.append(cut)
    return parts


def job_of(parts: Sequence[Sequence[TrajectoryLengths]], num_agents: int, turn_s: float = 0.0) -> Job:
    """Agents that replay trajectories one after the other, and again where there are more agents.

    Args: turn_s: that an agent takes before each turn, beside its tool.
    """

    def rows(of: Sequence[Sequence[float]]) -> np.ndarray:
        return np.array([np.resize(np.array(row, float), num_agents) for row in of])

    return Job(
        turns=rows([[len(t.turns) for t in part] for part in parts]),
        steps=rows([[sum(gen - 1 for _, gen, _ in t.turns) for t in part] for part in parts]),
        delays_s=rows([[sum(delay_s + turn_s for _, _, delay_s in t.turns) for t in part] for part in parts]),
    )


def job_s(curves: Sequence[Sequence[SteadyPoint]], job: Job) -> float:
    """Job completion time of agents that start at once.

    With n of them left a turn waits TTFT(n) and a step takes TPOT(n), so those with much to generate fall behind those
    with many turns, and the last ones work on a cluster that is nearly theirs. They queue together whatever part each is
    in, so both times are those of the parts in proportion to the agents in them.

    Args: curves: points of each part.
    """
    num_parts, num_agents = job.turns.shape
    agents = np.arange(num_agents)
    part = np.zeros(num_agents, int)
    left = np.ones(num_agents)  # of an agent's part, as a share
    total_s = 0.0
    at_once = max(1, num_agents * num_parts // _STEPS)
    while len(agents):
        shares = np.bincount(part, minlength=num_parts) / len(agents)
        ttft_s, step_s = (float(_at(curves, len(agents), name) @ shares) for name in ("ttft_s", "step_s"))
        turns, steps, delays_s = (all_of[part, agents] for all_of in (job.turns, job.steps, job.delays_s))
        whole_s = turns * ttft_s + steps * step_s + delays_s
        ends_s = left * whole_s
        last = min(at_once, len(agents)) - 1
        passed_s = float(np.partition(ends_s, last)[last])
        total_s += passed_s
        ended = ends_s <= passed_s
        left = np.where(ended, 1.0, left - passed_s / np.maximum(whole_s, 1e-12))
        part = part + ended
        going = part < num_parts
        agents, part, left = agents[going], part[going], left[going]
    return total_s


def _at(curves: Sequence[Sequence[SteadyPoint]], num_agents: int, name: str) -> np.ndarray:
    """A time of every part with so many agents, [parts]."""
    return np.array(
        [np.interp(num_agents, [p.num_agents for p in points], [getattr(p, name) for p in points]) for points in curves]
    )
