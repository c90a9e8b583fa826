"""A plan as a table of plain text. Pure."""

from collections.abc import Sequence

from dualpath_ray.observability.format import percent, times
from dualpath_ray.planning.candidate import BASIC, DUAL, SINGLE
from dualpath_ray.planning.choice import Row, gain
from dualpath_ray.planning.limits import LINK_WORDS
from dualpath_ray.planning.links import BottleneckFreeRange
from dualpath_ray.planning.split import Split
from dualpath_ray.planning.verdict import value_words
from dualpath_ray.traffic.hops import LinkKind

_NONE = "-"
NAMES = {DUAL: "dual path", SINGLE: "single path", BASIC: "Basic"}


def plan_table(
    rows: Sequence[Row], best: Split | None, more_is_better: bool, free: BottleneckFreeRange | None = None
) -> str:
    """One line a split; a star marks the one to use."""
    unit = "sustained agents/s" if more_is_better else "job completion time"
    head = ("", "split", "P/D", "in range", *NAMES.values(), "gain", "limit", "busiest resource")
    lines = [head, *(_cells(row, row.split == best, more_is_better) for row in rows if not row.unfit)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [free_words(free)] if free else []
    text.append(f"{unit}, simulated ('at most' or 'at least': by bounds alone)")
    text += ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text += [f"   {row.split} does not fit: {row.unfit}" for row in rows if row.unfit]
    return "\n".join(text)


def free_words(free: BottleneckFreeRange) -> str:
    """The range, and what bounds it."""
    if free.is_empty:
        return "at no P/D are the storage NICs the first links to be full (section 4.2)"
    low, high = LINK_WORDS[free.low_link], LINK_WORDS[free.high_link]
    return (
        f"storage NICs are the first links to be full where P/D is {free.low:.2f} to {free.high:.2f} (section 4.2); "
        f"below it {low} is, above it {high}"
    )


def range_words(row: Row) -> str:
    """Whether P/D is in the range in which the storage NICs are full first (section 4.2), else which link is."""
    return "yes" if row.first_link is None else f"no: {LINK_WORDS[LinkKind(row.first_link)]}"


def first_words(row: Row) -> str:
    """The same for a picture."""
    return "in range" if row.first_link is None else f"{LINK_WORDS[LinkKind(row.first_link)]} first"


def _cells(row: Row, is_best: bool, more_is_better: bool) -> tuple[str, ...]:
    ratio = row.split.prefill_nodes / row.split.decode_nodes
    start = ("*" if is_best else "", str(row.split), f"{ratio:.2f}", range_words(row))
    if row.dual is None:
        assert row.bound is not None
        if row.bound.refused:
            return (*start, "cannot", _NONE, _NONE, _NONE, row.bound.resource, row.bound.refused)
        at_best = f"{'at most' if more_is_better else 'at least'} {value_words(row.bound.value, more_is_better)}"
        return (*start, at_best, _NONE, _NONE, _NONE, _NONE, row.bound.resource)
    values = [
        value_words(row.outcomes[system].value, more_is_better) if system in row.outcomes else _NONE for system in NAMES
    ]
    ratio_of = gain(row, SINGLE, more_is_better)
    name, share = row.dual.busiest
    told = times(ratio_of).replace("×", "x") if ratio_of else _NONE
    return (*start, *values, told, row.dual.breaks or _NONE, f"{name} {percent(share)}")
