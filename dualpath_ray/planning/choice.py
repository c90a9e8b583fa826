"""Which split to simulate next, and which one wins. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dualpath_ray.planning.candidate import DUAL, SINGLE
from dualpath_ray.planning.objective import Bound, Outcome
from dualpath_ray.planning.split import Split

NOISE_RATIO = 0.05  # what short runs leave open: nobody loses for less
MOST_COMPARED = 5  # splits: all of a cluster of six nodes
WORTH_A_RUN = 0.6  # of the best score: a split that cannot reach it is left out, though one that can may still not win


@dataclass(slots=True)
class Row:
    """A split in the plan."""

    split: Split
    unfit: str = ""  # why it cannot be built; all else is empty then
    first_link: str | None = None  # that saturates before the storage NICs do (section 4.2)
    bound: Bound | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by system, of those that were simulated

    @property
    def dual(self) -> Outcome | None:
        return self.outcomes.get(DUAL)

    @property
    def refused(self) -> str:
        """Why it cannot serve, without a run; empty when it may."""
        return self.unfit or (self.bound.refused if self.bound else "")


def next_split(bounds: Mapping[Split, float], found: Mapping[Split, float]) -> Split | None:
    """The split with the best prospects of those that are still open; None when none of them comes near the best.

    Args: bounds: the best score that each can reach; found: scores by simulation.
    """
    best = max(found.values(), default=0.0)
    wanted = {s: b for s, b in bounds.items() if s not in found and b > 0 and b >= WORTH_A_RUN * best}
    return max(wanted, key=lambda split: (wanted[split], split), default=None)


def next_compared(found: Mapping[Split, float], single: Mapping[Split, float]) -> Split | None:
    """The split to simulate the single path on next; None: enough is known.

    The best few show what dual path gains on each. Beyond them, whatever the single path might do best on: it does no
    better than the dual path.

    Args: found: scores of the dual path; single: those of the single path so far.
    """
    best = max(found.values(), default=0.0)
    left = [split for split, score in found.items() if split not in single and score > 0]
    split = max(left, key=lambda split: (found[split], split), default=None)
    if split is None:
        return None
    few = len(single) < MOST_COMPARED and found[split] >= WORTH_A_RUN * best
    return split if few or found[split] >= max(single.values(), default=0.0) else None


def winner(found: Mapping[Split, float], own: Split | None, wanted: float = 0.0) -> Split | None:
    """The split with the best score; the one that there is already, when it is as good but for noise. None: none works.

    Args: own: of the configuration; wanted: a score below it is not as good as one that reaches it.
    """
    best = max(found, key=lambda split: (found[split], split), default=None)
    if best is None or not found[best]:
        return None
    score = found.get(own, 0.0) if own is not None else 0.0
    if score >= found[best] / (1 + NOISE_RATIO) and (score >= wanted or found[best] < wanted):
        return own
    return best


def best_single(rows: Sequence[Row], more_is_better: bool) -> Row | None:
    """The row on which the single path does best."""
    found = [row for row in rows if SINGLE in row.outcomes]
    sign = 1 if more_is_better else -1
    return max(found, key=lambda row: sign * row.outcomes[SINGLE].value, default=None)


def gain(row: Row, over: str, more_is_better: bool) -> float | None:
    """How many times better the dual path is than another system on the same split; None when that is not known."""
    if row.dual is None or over not in row.outcomes:
        return None
    ours, theirs = row.dual.value, row.outcomes[over].value
    if more_is_better:
        ours, theirs = theirs, ours
    return theirs / ours if ours else None
