"""Rows of a figure as pairs of bars: the paper's number and ours."""

from collections.abc import Sequence

from dualpath_ray.observability.chart import VALUE_WIDTH, WIDTH, Chart, box, text
from dualpath_ray.observability.markup import join, tag
from dualpath_ray.planning.rows import Row

_LABEL, _ROW, _BAR = 330.0, 44.0, 13.0


def row_chart(rows: Sequence[Row]) -> Chart:
    """A hollow bar for the paper's number, below it ours, as long as they are large; a scale for each unit."""
    room = WIDTH - _LABEL - VALUE_WIDTH
    longest = {row.unit: max(max(abs(r.paper), abs(r.ours)) for r in rows if r.unit == row.unit) for row in rows}
    parts = []
    for index, row in enumerate(rows):
        y, scale = index * _ROW, room / longest[row.unit]
        theirs, ours = abs(row.paper) * scale, abs(row.ours) * scale
        parts += [
            text(0, y + 20, row.name, "small"),
            box(_LABEL, y + 4, theirs, _BAR, "hollow", f"paper: {number(row.paper, row.unit)}", rx=2),
            box(_LABEL, y + 20, ours, _BAR, "dual", f"ours: {number(row.ours, row.unit)}", rx=2),
            text(_LABEL + theirs + 8, y + 15, number(row.paper, row.unit), "soft small halo"),
            text(
                _LABEL + ours + 8,
                y + 31,
                join(number(row.ours, row.unit), tag("tspan", f"{row.deviation:+.1%}", class_="soft", dx=8)),
                "small halo",
            ),
        ]
    label = "; ".join(
        f"{row.name}: paper {number(row.paper, row.unit)}, ours {number(row.ours, row.unit)}" for row in rows
    )
    return Chart(join(*parts), _ROW * len(rows), label)


def number(value: float, unit: str) -> str:
    """``3167.0, 's' -> '3,167 s'``."""
    if unit == "%":
        return f"{value:+.1%}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    written = f"{value:,.{digits}f}"
    return f"{written}{unit}" if unit == "x" else f"{written} {unit}".strip()
