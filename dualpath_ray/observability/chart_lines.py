"""Lines over a doubling quantity, each named at its end."""

import math
from collections.abc import Mapping, Sequence

from dualpath_ray.observability.chart import WIDTH, Chart, rule, text, tick_label, ticks
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.standalone import standalone_svg

_LEFT, _RIGHT, _TOP, _HEIGHT, _BELOW = 46.0, 230.0, 64.0, 260.0, 42.0
_COLOURS = ("dual", "decode", "prefill", "read", "prefill-compute", "wait-engine", "soft", "ink", "alarm", "plain")
_LEAST_APART = 15.0  # of two names

Points = Sequence[tuple[float, float]]


def lines_svg(
    title: str, x_words: Mapping[float, str], unit: str, lines: Mapping[str, Points], beside: str = ""
) -> str:
    """A standalone SVG.

    Args: x_words: how to call each x, above 0 and drawn on a logarithmic scale; unit: of y; lines: their points in order
        of x; beside: the line that limits the others, drawn dashed.
    """
    chart = lines_chart(x_words, lines, beside)
    parts = [text(0, 16, title, "title"), text(0, 38, unit, "soft small")]
    body = join(*parts, tag("g", chart.body, transform=f"translate(0 {_TOP:g})"))
    return standalone_svg(body, _TOP + chart.height, f"{title}, {unit}. {chart.label}")


def lines_chart(x_words: Mapping[float, str], lines: Mapping[str, Points], beside: str = "") -> Chart:
    """The drawing alone; arguments as for ``lines_svg``."""
    top = max((y for points in lines.values() for _, y in points), default=0.0) or 1.0
    logs = [math.log(x) for x in x_words]
    first, span = min(logs), (max(logs) - min(logs)) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (math.log(x) - first) / span * (WIDTH - _LEFT - _RIGHT), _HEIGHT * (1 - y / top)

    parts: list[Markup] = []
    for value in ticks(top, 6):
        y = at(min(x_words), value)[1]
        parts += [
            rule(_LEFT, y, WIDTH - _RIGHT, y, "grid"),
            text(_LEFT - 8, y + 4, tick_label(value), "soft small end"),
        ]
    for x, words in x_words.items():
        parts.append(text(at(x, 0)[0], _HEIGHT + 20, words, "soft small middle"))
    ends: list[tuple[float, str, str]] = []
    for index, (name, points) in enumerate(lines.items()):
        colour = f"var(--{_COLOURS[index % len(_COLOURS)]})"
        places = [at(x, y) for x, y in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dashes = ";stroke-dasharray:5 4" if name == beside else ""
        said = tag("title", f"{name}: {', '.join(f'{x_words[x]} {y:.3g}' for x, y in points)}")
        parts.append(tag("path", said, d=path, style=f"fill:none;stroke:{colour};stroke-width:2{dashes}"))
        parts += [tag("circle", cx=x, cy=y, r=2.6, style=f"fill:{colour}") for x, y in places]
        ends.append((places[-1][1], name, colour))
    for y, name, colour in _apart(ends):
        parts.append(tag("text", name, x=WIDTH - _RIGHT + 14, y=y + 4, class_="small", style=f"fill:{colour}"))
    label = "; ".join(f"{name}: {', '.join(f'{y:.3g}' for _, y in points)}" for name, points in lines.items())
    return Chart(join(*parts), _HEIGHT + _BELOW, label)


def _apart(ends: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Names at the height of their lines' ends, moved down where they would touch, and up again at the bottom."""
    placed = sorted(ends)
    heights = [y for y, _, _ in placed]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + _LEAST_APART)
    heights[-1] = min(heights[-1], _HEIGHT)
    for i in reversed(range(len(heights) - 1)):
        heights[i] = min(heights[i], heights[i + 1] - _LEAST_APART)
    return [(y, name, colour) for y, (_, name, colour) in zip(heights, placed, strict=True)]
