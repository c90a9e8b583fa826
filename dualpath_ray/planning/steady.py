"""A cluster kept at a number of agents: what a long run would settle at, from a few turns of each agent.

Agents are met in the middle of their trajectories, and whoever ends is replaced by the next. By Little's law a system
that does ``turns_per_s`` with ``num_agents`` under way is the one at which ``turns_per_s / turns of an agent`` agents
arrive a second. So neither the hour in which a queue fills need be simulated, nor a job to its end.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from math import inf

import numpy as np

from dualpath_ray.observability.turn_columns import TurnColumns
from dualpath_ray.planning.limits import DE_HBM, LINK_WORDS, compute_limits, rate_limits, tightest, unloaded_s
from dualpath_ray.planning.work import TurnWork
from dualpath_ray.simulator.busy import busy_s
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.trajectory import TrajectoryLengths

WARM_UP_TURNS, MEASURED_TURNS = 3, 6  # of each agent, on average
MOST_AGENTS = 4096  # of a simulated cluster: what more of them would do is hardly another thing, and takes minutes
_LEAST_TURNS = 60  # measured, however few agents
_SLICES_A_TURN = 8
_LEAST_TURN_S = 1e-3
_PATIENCE = 50  # times as long as bounds say: then nothing moves any more


@dataclass(frozen=True, slots=True)
class SteadyPoint:
    """A system with so many agents under way. Times are means over turns.

    ``busy``: the share of each resource that is used; of computing, of what the fullest batches would allow.
    """

    num_agents: int
    turns_per_s: float
    ttft_s: float
    ttst_s: float
    tpot_s: float
    step_s: float  # a decode step, waiting for HBM included, in the mean over steps where ``tpot_s`` is that over turns
    de_path_share: float  # of the turns that read something
    busy: dict[str, float]
    num_turns: int  # simulated

    @property
    def turn_s(self) -> float:
        """From a turn's submission to the next one's, tool delays included (Little's law)."""
        return self.num_agents / self.turns_per_s if self.turns_per_s else inf


@dataclass(frozen=True, slots=True)
class Patience:
    """A run is given up, past its warm-up, when a mean is above these: more turns would not bring it down."""

    ttft_s: float = inf
    tpot_s: float = inf


def on_their_way(
    trajectories: Sequence[TrajectoryLengths], num_agents: int, ttft_s: float, tpot_s: float, num_turns: int, seed: int
) -> list[TrajectoryLengths]:
    """Agents as they are met at a moment of a long run: ``num_agents`` trajectories without what is over, then whole ones.

    A moment falls into a turn as likely as the turn is long, so a few turns with long answers are met more often than
    many with short ones.

    Args:   ttft_s, tpot_s: what a turn takes once and at each step, as far as is known.
            num_turns: that will be simulated; there are whole trajectories to take the place of all that end meanwhile.
    """
    rng = np.random.default_rng(seed)
    lengths = [ttft_s + tpot_s * (gen - 1) + delay_s for t in trajectories for _, gen, delay_s in t.turns]
    starts = [0, *accumulate(len(t.turns) for t in trajectories)]
    ends_s = np.cumsum(lengths)
    places_s = (np.arange(num_agents) + rng.random(num_agents)) / num_agents * ends_s[-1]
    turns = np.minimum(np.searchsorted(ends_s, rng.permutation(places_s), side="right"), starts[-1] - 1)
    met = []
    for turn in turns.tolist():
        index = bisect_right(starts, turn) - 1
        trajectory, first = trajectories[index], turn - starts[index]
        stored = trajectory.stored_tokens + sum(append + gen for append, gen, _ in trajectory.turns[:first])
        met.append(TrajectoryLengths(trajectory.trajectory_id, trajectory.turns[first:], stored))
    shortest = min(len(t.turns) for t in trajectories)
    order = [trajectories[i] for i in rng.permutation(len(trajectories))]
    return [*met, *islice(cycle(order), num_agents + num_turns // shortest)]


def measure(
    spec: ClusterSpec,
    trajectories: Sequence[TrajectoryLengths],
    work: TurnWork,
    num_agents: int,
    seed: int,
    patience: Patience | None = None,
    hint: tuple[float, float] | None = None,
    max_tpot_s: float | None = None,
) -> SteadyPoint:
    """Simulate ``num_agents`` under way.

    Args: hint: (TTFT, TPOT) of a system that is nearly as loaded: whom one meets depends on how long turns take.
        max_tpot_s: mean TPOT that must be kept, which limits what the decode engines can do.
    """
    patience = patience or Patience()
    warm_up = num_agents * WARM_UP_TURNS
    stop = warm_up + max(num_agents * MEASURED_TURNS, _LEAST_TURNS)
    limits = rate_limits(spec, work)
    ttft_s, tpot_s = hint or unloaded_s(spec, work)
    simulation = Simulation(
        spec, on_their_way(trajectories, num_agents, ttft_s + spec.delays.turn_s, tpot_s, stop, seed)
    )
    # They come one by one over the time that a turn takes at best, or all would be at the same stage for ever.
    alone_s = ttft_s + tpot_s * work.steps + work.delay_s
    turn_s = max(alone_s, num_agents / tightest(limits).turns_per_s, _LEAST_TURN_S)
    arrivals_s = [turn_s * i / num_agents for i in range(num_agents)]
    first_turn, began_s, busy_before = 0, 0.0, {}
    now_s = 0.0
    for now_s in simulation.steady(arrivals_s, turn_s / _SLICES_A_TURN):
        done = len(simulation.turns)
        if not began_s and done >= warm_up:
            first_turn, began_s, busy_before = done, now_s, busy_s(simulation.system, now_s)
        elif began_s and (
            done >= stop or (done >= (warm_up + stop) // 2 and _hopeless(simulation, first_turn, patience))
        ):
            break
        if now_s > _PATIENCE * stop / num_agents * turn_s:
            break
    links = {
        LINK_WORDS[link]: (after - busy_before.get(link, 0.0)) / (now_s - began_s)
        for link, after in busy_s(simulation.system, now_s).items()
    }
    return _point(spec, work, num_agents, simulation.turns, first_turn, links, max_tpot_s)


def _means(turns: TurnColumns, first: int) -> tuple[float, float, float]:
    """Mean TTFT, TTST and TPOT of the turns from ``first`` on; the latter two of those with a second token."""
    later = turns.column("generated_tokens")[first:] > 1
    return (
        _mean(turns.column("ttft_s")[first:]),
        _mean(turns.column("ttst_s")[first:][later]),
        _mean(turns.column("tpot_s")[first:][later]),
    )


def _hopeless(simulation: Simulation, first: int, patience: Patience) -> bool:
    ttft_s, _, tpot_s = _means(simulation.turns, first)
    return ttft_s > patience.ttft_s or tpot_s > patience.tpot_s


def _point(
    spec: ClusterSpec,
    work: TurnWork,
    num_agents: int,
    turns: TurnColumns,
    first: int,
    links: dict[str, float],
    max_tpot_s: float | None,
) -> SteadyPoint:
    ttft_s, ttst_s, tpot_s = _means(turns, first)
    decoded_s = turns.column("finished_s")[first:] - turns.column("prefill_end_s")[first:]
    step_s = _mean(decoded_s) / max(1.0, _mean(turns.column("generated_tokens")[first:] - 1.0))
    # Counted in a short window, a rate depends on which answers happened to end in it; what turns wait for hardly does.
    rate = num_agents / max(ttft_s + work.steps * step_s + work.delay_s, 1e-9) if len(turns) > first else 0.0
    hits = turns.column("hit_tokens")[first:] > 0
    # HBM is promised to a request from its decision to its last token (Little's law again).
    held_s = _mean(turns.column("finished_s")[first:] - turns.column("assigned_s")[first:])
    held_tokens = rate * held_s * (work.prompt + work.gen)
    busy = {
        **{name: rate / limit for name, limit in compute_limits(spec, work, max_tpot_s).items()},
        **links,
        DE_HBM: held_tokens / (spec.decode_nodes * spec.engines * spec.hbm_tokens),
    }
    return SteadyPoint(
        num_agents=num_agents,
        turns_per_s=rate,
        ttft_s=ttft_s if rate else inf,  # nothing moves
        ttst_s=ttst_s,
        tpot_s=tpot_s,
        step_s=step_s,
        de_path_share=_mean(turns.column("read_path")[first:][hits]),
        busy=busy,
        num_turns=len(turns),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
