"""A comparison as one HTML file that needs nothing else: no network, no script, light and dark."""

from typing import Any

from dualpath_ray.observability.headline import headline
from dualpath_ray.observability.markup import tag
from dualpath_ray.observability.page import page
from dualpath_ray.observability.report_charts import jct_section, paths_section, snic_section, ttft_section
from dualpath_ray.observability.report_head import opening
from dualpath_ray.observability.report_tables import numbers_section, origin_section
from dualpath_ray.observability.run_record import Comparison


def render_report(comparison: Comparison, summary: dict[str, Any]) -> str:
    """The whole page as text.

    Args: summary: of the same comparison, from ``summarize``.
    """
    title = headline(comparison, summary)
    body = tag(
        "body",
        tag("a", "Skip to the numbers", href="#numbers", class_="skip"),
        tag(
            "main",
            opening(comparison, summary),
            jct_section(comparison, summary),
            snic_section(comparison),
            ttft_section(comparison),
            paths_section(comparison),
            numbers_section(comparison, summary),
            origin_section(comparison, summary),
        ),
    )
    return page(title, body)
