"""The report's sections with pictures; each says how to read its picture."""

from typing import Any

from dualpath_ray.observability.chart import Chart
from dualpath_ray.observability.chart_jct import jct_chart
from dualpath_ray.observability.chart_snic import snic_chart
from dualpath_ray.observability.chart_ttft import ttft_chart
from dualpath_ray.observability.format import count, percent, seconds
from dualpath_ray.observability.markup import Markup, tag
from dualpath_ray.observability.path_choices import PathChoices, count_choices
from dualpath_ray.observability.run_record import Comparison
from dualpath_ray.observability.ttft_parts import TTFT_PARTS, mean_ttft_parts_s


def jct_section(comparison: Comparison, summary: dict[str, Any]) -> Markup:
    """Completion times."""
    how = (
        "Each bar runs from the first request submitted to the last token generated; shorter is better. Every run did "
        "the same work, starting with an empty store. "
    )
    if (summary["ideal_speedup"] or 1) > 1:
        how += (
            "The dashed line is where the single path’s time would fall if storage were all that mattered and every "
            "storage NIC read all the time. "
        )
    if any(run.oracle for run in comparison.runs):
        how += "The oracle is charged for no I/O at all: what it still takes is computation."
    return _section("completion", "Job completion time", how, _figure(jct_chart(comparison, summary)))


def snic_section(comparison: Comparison) -> Markup | None:
    """Storage NICs over time; nothing when no run read anything."""
    chart = snic_chart(comparison)
    if chart is None:
        return None
    how = Markup(
        "A row is one node’s storage NIC; its height is how much of the NIC’s rate reads use at that moment. "
        '<span class="dot pe"></span>Prefill nodes are orange, <span class="dot de"></span>decode nodes blue. On the '
        "single path the decode nodes’ NICs stand idle while the prefill nodes’ are the bottleneck; the dual path "
        "reads through all of them. Writes are not shown."
    )
    return _section("snic", "Storage NICs over time", how, _figure(chart))


def ttft_section(comparison: Comparison) -> Markup:
    """What a turn waits for before its first token."""
    how = (
        "From a turn’s submission to its first token, as means over all turns. The parts of a bar add up to the whole."
    )
    head = tag("tr", tag("th", "Part", scope="col"), *[tag("th", run.mode, scope="col") for run in comparison.runs])
    means = [mean_ttft_parts_s(run.turns) for run in comparison.runs]
    rows = [
        tag(
            "tr",
            tag("th", name, tag("small", meaning), scope="row"),
            *[tag("td", seconds(parts[index])) for parts in means],
        )
        for index, (_, name, meaning) in enumerate(TTFT_PARTS)
    ]
    table = tag("table", tag("caption", "Means over turns"), tag("thead", head), tag("tbody", *rows))
    return _section(
        "ttft",
        "Time to first token",
        how,
        _figure(ttft_chart(comparison)),
        tag("details", tag("summary", "The same as a table"), scrolling(table, "Time to first token, table")),
    )


def paths_section(comparison: Comparison) -> Markup:
    """Which side read, and why."""
    how = (
        "Before a turn with a hit starts, it is decided whose storage NIC reads it: the prefill engine’s node (PE) or "
        "the decode engine’s (DE). The scheduled dual path takes the side with the shorter read queue; on a tie, the "
        "one that has read less."
    )
    columns = (
        ("Run", ""),
        ("PE reads", ""),
        ("DE reads", ""),
        ("Share", "left"),
        ("Commonest reasons, by turns", "words"),
    )
    head = tag("tr", *[tag("th", c, scope="col", class_=kind or None) for c, kind in columns])
    rows = [_path_row(run.mode, count_choices(run.turns)) for run in comparison.runs]
    table = tag(
        "table", tag("caption", "Turns with a hit; n stands for a number"), tag("thead", head), tag("tbody", *rows)
    )
    return _section("paths", "Path decisions", how, scrolling(table, "Path decisions"))


def scrolling(content: Markup, label: str) -> Markup:
    """Content that scrolls sideways on a narrow screen, also by keyboard."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def _path_row(mode: str, choices: PathChoices) -> Markup:
    share: Markup | str = "–"
    if choices.de_ratio is not None:
        parts = [
            tag("i", class_=side, style=f"flex:{turns}")
            for side, turns in (("pe", choices.num_pe), ("de", choices.num_de))
            if turns
        ]
        words = f"{percent(1 - choices.de_ratio)} PE, {percent(choices.de_ratio)} DE"
        share = tag("span", *parts, class_="share", role="img", aria_label=words, title=words)
    reasons = [
        tag("li", tag("b", count(turns)), f"{side.upper()}: {reason}") for side, reason, turns in choices.reasons
    ]
    return tag(
        "tr",
        tag("th", mode, scope="row"),
        tag("td", count(choices.num_pe)),
        tag("td", count(choices.num_de)),
        tag("td", share),
        tag("td", tag("ul", *reasons, class_="reasons"), class_="words"),
    )


def _section(anchor: str, title: str, how: str, *content: Markup) -> Markup:
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag("section", heading, tag("p", how, class_="how"), *content, id=anchor, aria_labelledby=f"{anchor}-title")


def _figure(chart: Chart) -> Markup:
    return tag("figure", scrolling(chart.svg(), chart.label.split(".")[0].split(":")[0]), class_="card")
