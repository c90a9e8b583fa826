"""An SVG that stands alone: follows the reader's light or dark scheme and draws its own background."""

from dualpath_ray.observability.chart import WIDTH, chart_style
from dualpath_ray.observability.markup import Markup, tag
from dualpath_ray.observability.palette import style_variables

_MARGIN = 28.0


def standalone_svg(body: Markup, height: float, label: str) -> str:
    """``body`` is ``WIDTH`` wide and ``height`` high; ``label`` says in words what it shows."""
    outer_width, outer_height = WIDTH + 2 * _MARGIN, height + 2 * _MARGIN
    return tag(
        "svg",
        tag("title", label),
        tag("style", Markup(style_variables() + chart_style())),
        tag("rect", width=outer_width, height=outer_height, rx=10, style="fill:var(--card)"),
        tag("g", body, transform=f"translate({_MARGIN:g} {_MARGIN:g})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {outer_width:g} {outer_height:g}",
        width=outer_width,
        height=outer_height,
        role="img",
        class_="chart",
    )
