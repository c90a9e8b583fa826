"""A comparison as one HTML file that needs nothing else: no network, no script, light and dark."""

from importlib import resources
from typing import Any

from dualpath_ray.observability.chart import chart_style
from dualpath_ray.observability.headline import headline
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.palette import style_variables
from dualpath_ray.observability.report_charts import jct_section, paths_section, snic_section, ttft_section
from dualpath_ray.observability.report_head import opening
from dualpath_ray.observability.report_tables import numbers_section, origin_section
from dualpath_ray.observability.run_record import Comparison


def render_report(comparison: Comparison, summary: dict[str, Any]) -> str:
    """The whole page as text.

    Args: summary: of the same comparison, from ``summarize``.
    """
    style = resources.files("dualpath_ray.observability").joinpath("report.css").read_text("utf-8")
    title = headline(comparison, summary)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style_variables() + chart_style() + style)),
    )
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
    return join(Markup("<!doctype html>\n"), tag("html", head, body, lang="en"), Markup("\n"))
