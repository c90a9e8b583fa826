"""Ways to divide nodes into prefill and decode, and what stands for them in a simulation. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from math import gcd

from dualpath_ray.base.errors import ConfigError

MOST_NODES = 8  # simulated: a larger cluster is taken for several such ones side by side (section 7.7: it scales)
FINER = 2  # times as many for the splits next to the best


@dataclass(frozen=True, slots=True, order=True)
class Split:
    """So many prefill and decode nodes."""

    prefill_nodes: int
    decode_nodes: int

    def __str__(self) -> str:
        return f"{self.prefill_nodes}P{self.decode_nodes}D"

    @property
    def nodes(self) -> int:
        return self.prefill_nodes + self.decode_nodes


def all_splits(num_nodes: int) -> list[Split]:
    """Every split with at least one node of either kind, fewest prefill nodes first.

    Raises: ConfigError when there are too few nodes for any.
    """
    if num_nodes < 2:
        raise ConfigError(f"--nodes: {num_nodes} is too few; a cluster needs one prefill and one decode node at least")
    return [Split(prefill, num_nodes - prefill) for prefill in range(1, num_nodes)]


def model_of(split: Split, most: int = MOST_NODES) -> Split:
    """What is simulated for a split: itself, or the cluster of at most so many nodes with its ratio, or nearly so."""
    if split.nodes <= most:
        return split
    common = gcd(split.prefill_nodes, split.decode_nodes)
    prefill, decode = split.prefill_nodes // common, split.decode_nodes // common
    if times := most // (prefill + decode):
        return Split(prefill * times, decode * times)
    prefill = min(most - 1, max(1, round(split.prefill_nodes * most / split.nodes)))
    return Split(prefill, most - prefill)


def coarse(num_nodes: int, most: int = MOST_NODES) -> list[Split]:
    """Splits that stand for all: every one of a small cluster, evenly spread ones of a large cluster."""
    if num_nodes <= most:
        return all_splits(num_nodes)
    return _splits(num_nodes, [p * num_nodes / most for p in range(1, most)])


def finer(num_nodes: int, best: Split, most: int = MOST_NODES) -> list[Split]:
    """Splits half way between the best of ``coarse`` and its neighbours; none where those were all there are."""
    if num_nodes <= most:
        return []
    step = num_nodes / most / FINER
    near = _splits(num_nodes, [best.prefill_nodes - step, best.prefill_nodes + step])
    return [split for split in near if split != best]


def nearest(wanted: Split, fit: Collection[Split]) -> Split:
    """Of the splits that fit, the one nearest to the wanted one."""
    return min(fit, key=lambda split: (abs(split.prefill_nodes - wanted.prefill_nodes), split))


def _splits(num_nodes: int, prefill: list[float]) -> list[Split]:
    counts = sorted({min(num_nodes - 1, max(1, round(p))) for p in prefill})
    return [Split(p, num_nodes - p) for p in counts]
