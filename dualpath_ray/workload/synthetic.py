"""Generated trajectories with the statistics of the paper's Table 2 (section 7).

Table 2 gives means: turns, append and gen per turn, total, mean context. Turns times (append + gen) is 1.6 to 1.7 times
the total, so append and gen cannot be means over all turns (token-weighted: those would give exactly the total). They
are means over trajectories of each trajectory's own mean: short trajectories with large appends count as much as long
ones with small appends. With the total nearly the same for all, as it is when a length limit ends them, that says
E[1/turns] = (append + gen) / total, while E[turns] is given. Two moments do not fix a distribution: we take the number of
turns log-uniform between two bounds, which they do fix (64K: 33 and 440 turns). A log-normal one with the same moments has
a tail of over 1,000 turns, six times the mean; recorded coding agents (364 of mini-SWE-agent) end below four times.
The token-weighted append and gen of what is generated are lower than the table's by E[turns] E[1/turns] (64K: 287 and 118
in place of 429 and 176 over 157 turns).
"""

import math
from dataclasses import dataclass

import numpy as np

from dualpath_ray.workload.lengths import split_total, stratified
from dualpath_ray.workload.token_ids import random_ids, stable_seed
from dualpath_ray.workload.trajectory import Trajectory, TrajectoryLengths, Turn


@dataclass(frozen=True, slots=True)
class TraceShape:
    """One row of Table 2, in tokens; ``turns`` is a mean too."""

    turns: int
    append: int
    gen: int
    total: int
    mean_context: int


TABLE_2 = {
    "table2-32k": TraceShape(turns=60, append=608, gen=148, total=28639, mean_context=17183),
    "table2-48k": TraceShape(turns=106, append=474, gen=172, total=42607, mean_context=25120),
    "table2-64k": TraceShape(turns=157, append=429, gen=176, total=55958, mean_context=32721),
}
PAPER_TRAJECTORIES = 500  # of each trace; more are made by prepending a random first round (section 7)
MIN_TURNS = 4
TOTAL_SPREAD = 0.12  # totals are uniform within this share of the mean; the upper end stays below the row's MaxLen


def generate(shape: TraceShape, *, num_trajectories: int, seed: int, vocab_size: int) -> list[Trajectory]:
    """Trajectories of unequal length whose means are those of ``shape``; the same for the same arguments."""
    return [
        Trajectory(
            lengths.trajectory_id,
            tuple(
                Turn(random_ids(stable_seed(seed, index, turn), append, vocab_size), gen)
                for turn, (append, gen, _) in enumerate(lengths.turns)
            ),
        )
        for index, lengths in enumerate(generate_lengths(shape, num_trajectories=num_trajectories, seed=seed))
    ]


def generate_lengths(shape: TraceShape, *, num_trajectories: int, seed: int) -> list[TrajectoryLengths]:
    """The same trajectories without their tokens."""
    rng = np.random.default_rng(stable_seed("table2", seed, shape.turns, num_trajectories))
    turn_quantiles, total_quantiles = stratified(num_trajectories, rng), stratified(num_trajectories, rng)
    fewest, most = turn_bounds(shape)
    trajectories = []
    for index in range(num_trajectories):
        num_turns = max(MIN_TURNS, round(fewest * (most / fewest) ** turn_quantiles[index]))
        total = round(shape.total * (1 + TOTAL_SPREAD * (2 * total_quantiles[index] - 1)))
        turns = tuple((append, gen, 0.0) for append, gen in _turn_lengths(shape, num_turns, total, rng))
        trajectories.append(TrajectoryLengths(f"table2-{seed}-{index}", turns))
    return trajectories


def turn_bounds(shape: TraceShape) -> tuple[float, float]:
    """Fewest and most turns of a trajectory: log-uniform between them, turns and 1/turns have the means of ``shape``."""
    product = shape.turns * (shape.append + shape.gen) / shape.total  # E[turns] E[1/turns], above 1
    low, high = 1.0 + 1e-6, 1e6  # of the ratio of the bounds, with which the product grows
    for _ in range(80):
        ratio = math.sqrt(low * high)
        if (ratio - 1) ** 2 / (ratio * math.log(ratio) ** 2) < product:
            low = ratio
        else:
            high = ratio
    fewest = shape.turns * math.log(ratio) / (ratio - 1)
    return fewest, fewest * ratio


def _turn_lengths(shape: TraceShape, num_turns: int, total: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(append, gen) of each turn; append and gen add up to ``total``."""
    gen_total = max(num_turns, round(total * shape.gen / (shape.append + shape.gen)))
    append_total = total - gen_total
    # A first prompt of share f, then growth at a constant rate, has a mean context before each turn of
    # (n-1)/n (f + (1-f) h) of the total, where h = (n-2) / (2(n-1)). Solve for f; it is about 0.2 for many turns.
    grown = (num_turns - 2) / (2 * (num_turns - 1))
    first_share = (shape.mean_context / shape.total * num_turns / (num_turns - 1) - grown) / (1 - grown)
    first = round(first_share * total)
    first = max(1, min(first, append_total - (num_turns - 1)))
    appends = [first, *split_total(append_total - first, num_turns - 1, rng)]
    return list(zip(appends, split_total(gen_total, num_turns, rng), strict=True))
