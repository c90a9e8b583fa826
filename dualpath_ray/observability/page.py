"""A page of HTML that needs nothing else: no network, no script."""

from importlib import resources

from dualpath_ray.observability.chart import chart_style
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.palette import style_variables


def page(title: str, body: Markup) -> Markup:
    """The whole page. Args: body: its ``body`` element."""
    style = resources.files("dualpath_ray.observability").joinpath("report.css").read_text("utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style_variables() + chart_style() + style)),
    )
    return join(Markup("<!doctype html>\n"), tag("html", head, body, lang="en"), Markup("\n"))
