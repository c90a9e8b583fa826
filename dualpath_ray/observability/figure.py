"""One picture of a comparison for a README: completion times above, storage NICs over time below."""

from typing import Any

from dualpath_ray.observability.chart import WIDTH, shifted, text
from dualpath_ray.observability.chart_jct import jct_chart
from dualpath_ray.observability.chart_snic import snic_chart
from dualpath_ray.observability.headline import headline
from dualpath_ray.observability.markup import Markup, join
from dualpath_ray.observability.run_record import Comparison
from dualpath_ray.observability.standalone import standalone_svg


def compare_svg(comparison: Comparison, summary: dict[str, Any]) -> str:
    """A standalone SVG."""
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
    return standalone_svg(join(*parts), height, label)
