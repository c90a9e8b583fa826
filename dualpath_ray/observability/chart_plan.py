"""The splits of a plan as groups of bars, one bar a system; the split to use stands out."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from dualpath_ray.observability.chart import LABEL_WIDTH, VALUE_WIDTH, WIDTH, Chart, box, rule, shifted, text
from dualpath_ray.observability.markup import Markup, join
from dualpath_ray.observability.standalone import standalone_svg

_TITLE = 64.0
_BAR, _GAP, _GROUP_GAP = 15.0, 3.0, 18.0
_LEAST_GROUP = 36.0  # room for a label of two lines
_LINE_CHARS = 108
_KINDS = {"dual path": "dual", "single path": "plain", "Basic": "hollow"}


@dataclass(frozen=True, slots=True)
class PlanBars:
    """One split: (system, value, value in words) of each bar; ``says`` stands in place of bars."""

    label: str
    note: str
    bars: Sequence[tuple[str, float, str]]
    says: str = ""
    best: bool = False


def plan_svg(title: str, rows: Sequence[PlanBars], axis: str, wanted: float | None = None) -> str:
    """A standalone SVG.

    Args: axis: what the bars' length means; wanted: a value that must be reached, as a dashed line.
    """
    chart = plan_chart(rows, wanted)
    parts: list[Markup] = [text(0, 16, title, "title"), text(0, 38, axis, "soft small")]
    x = WIDTH - 250.0
    for name, kind in _KINDS.items():
        parts += [box(x, 29, 11, 11, kind, rx=2), text(x + 16, 38, name, "soft small")]
        x += 22 + 6.6 * len(name) + 12
    return standalone_svg(join(*parts, shifted(chart.body, _TITLE)), _TITLE + chart.height, f"{title}. {chart.label}")


def plan_chart(rows: Sequence[PlanBars], wanted: float | None = None) -> Chart:
    """The drawing alone; arguments as for ``plan_svg``."""
    values = [value for row in rows for _, value, _ in row.bars]
    longest = max([*values, wanted or 0.0], default=0.0) or 1.0
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / longest
    behind: list[Markup] = []
    parts: list[Markup] = []
    y = 0.0
    for row in rows:
        height = max(_LEAST_GROUP, len(row.bars) * (_BAR + _GAP))
        if row.best:
            behind.append(box(-12, y - 8, WIDTH + 24, height + 14, "track", rx=6))
        parts.append(_group(row, y, scale))
        y += height + _GROUP_GAP
    height = max(0.0, y - _GROUP_GAP)
    if wanted:
        x = LABEL_WIDTH + scale * wanted
        behind += [rule(x, -6, x, height, "bound"), text(x, -10, f"asked for: {wanted:g}", "soft small middle")]
    label = "; ".join(
        f"{row.label}: {', '.join(f'{name} {words}' for name, _, words in row.bars) or row.says}" for row in rows
    )
    return Chart(join(*behind, *parts), height + 8, label)


def _group(row: PlanBars, y: float, scale: float) -> Markup:
    parts = [text(0, y + 13, row.label, "strong"), text(0, y + 29, row.note, "soft small")]
    if not row.bars:
        lines = wrap(row.says, _LINE_CHARS, max_lines=2, placeholder=" …")
        parts += [text(LABEL_WIDTH, y + 13 + 15 * i, line, "soft small") for i, line in enumerate(lines)]
    for index, (name, value, words) in enumerate(row.bars):
        top = y + index * (_BAR + _GAP)
        kind = (
            "strong" if row.best and not index else "small" if row.best else "small halo"
        )  # a halo has the card's colour
        parts += [
            box(LABEL_WIDTH, top, scale * value, _BAR, _KINDS[name], f"{row.label}, {name}: {words}", rx=2),
            text(LABEL_WIDTH + scale * value + 8, top + 12, words, kind),
        ]
    return join(*parts)
