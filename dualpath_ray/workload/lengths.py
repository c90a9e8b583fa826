"""Drawing turn lengths: whole numbers with a given sum."""

import numpy as np

SPREAD_SIGMA = 0.8  # of the logarithm of one turn's length around its trajectory's mean


def split_total(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """``parts`` log-normal lengths of at least one token that add up to exactly ``total`` (at least ``parts``)."""
    weights = rng.lognormal(0.0, SPREAD_SIGMA, parts)
    # One token each, the rest by weight; rounding the running sum keeps the total exact.
    ends = np.rint(np.cumsum(weights) / weights.sum() * (total - parts)).astype(int)
    return [int(n) + 1 for n in np.diff(ends, prepend=0)]


def stratified(count: int, rng: np.random.Generator) -> list[float]:
    """``count`` numbers in (0, 1), one from each of as many equal slices, in random order.

    Drawn this way, means over a few hundred trajectories come out right whatever the seed.
    """
    return [float(u) for u in (rng.permutation(count) + rng.uniform(0.001, 0.999, count)) / count]
