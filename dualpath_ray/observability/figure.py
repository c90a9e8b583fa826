"""One picture of a comparison for a README: completion times above, storage NICs over time below."""

from typing import Any

from dualpath_ray.observability.chart import WIDTH, chart_style, shifted, text
from dualpath_ray.observability.chart_jct import jct_chart
from dualpath_ray.observability.chart_snic import snic_chart
from dualpath_ray.observability.headline import headline
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.palette import style_variables
from dualpath_ray.observability.run_record import Comparison

_MARGIN = 28.0


def compare_svg(comparison: Comparison, summary: dict[str, Any]) -> str:
    """A standalone SVG that follows the reader's light or dark scheme and draws its own background."""
    title = headline(comparison, summary)
    jct, snic = jct_chart(comparison, summary), snic_chart(comparison)
    parts: list[Markup] = [text(0, 16, title, "title"), shifted(jct.body, 40)]
    height = 40 + jct.height
    label = f"{title} {jct.label}."
    if snic is not None:
        parts += [
            text(0, height + 24, "Storage NICs over time", "title"),
            text(WIDTH, height + 24, "full height: the NIC’s rate", "soft small end"),
            shifted(snic.body, height + 44),
        ]
        height += 44 + snic.height
        label += f" {snic.label}."
    outer_width, outer_height = WIDTH + 2 * _MARGIN, height + 2 * _MARGIN
    return tag(
        "svg",
        tag("title", label),
        tag("style", Markup(style_variables() + chart_style())),
        tag("rect", width=outer_width, height=outer_height, rx=10, style="fill:var(--card)"),
        tag("g", join(*parts), transform=f"translate({_MARGIN:g} {_MARGIN:g})"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {outer_width:g} {outer_height:g}",
        width=outer_width,
        height=outer_height,
        role="img",
        class_="chart",
    )
