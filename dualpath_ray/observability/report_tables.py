"""The report's last sections: every number of the summary, and where they come from."""

from typing import Any

import yaml

from dualpath_ray.observability.format import number
from dualpath_ray.observability.markup import Markup, tag
from dualpath_ray.observability.metric_names import NODE_METRICS, RUN_METRICS, Unit
from dualpath_ray.observability.mode_words import mode_note
from dualpath_ray.observability.report_charts import scrolling
from dualpath_ray.observability.run_record import Comparison
from dualpath_ray.observability.summary import json_clean


def numbers_section(comparison: Comparison, summary: dict[str, Any]) -> Markup:
    """One row a number, one column a run."""
    runs = summary["runs"]
    columns = [
        tag("th", run["mode"], tag("br"), tag("small", mode_note(record)), scope="col")
        for run, record in zip(runs, comparison.runs, strict=True)
    ]
    rows = [
        tag(
            "tr",
            tag("th", metric.label, tag("small", metric.meaning), scope="row"),
            *[tag("td", number(metric.of(run), metric.unit)) for run in runs],
        )
        for metric in RUN_METRICS
    ]
    for node_metric in NODE_METRICS:
        rows += _node_rows(runs, node_metric.label, node_metric.meaning, node_metric.name, node_metric.unit)
    for way, meaning in (("in", "received by the node"), ("out", "sent by the node")):
        taken = [{n: ways.get(way) for n, ways in run["cnic_bytes"].items()} for run in runs]
        rows += _node_rows([{"bytes": x} for x in taken], f"CNIC {way}", meaning, "bytes", Unit.BYTES)
    table = tag(
        "table",
        tag("thead", tag("tr", tag("th", "Number", scope="col"), *columns)),
        tag("tbody", *rows),
    )
    return tag(
        "section",
        tag("h2", "All numbers", id="numbers-title"),
        tag(
            "p",
            "The same as in ",
            tag("code", "summary.json"),
            ". TTFT is the time to the first token, TTST from the first token to the second, TPOT the mean time of "
            "every token after the first; p99 is the value that 99 % of turns stay below. SNIC is a node’s storage "
            "NIC, CNIC its compute NIC.",
            class_="how",
        ),
        scrolling(table, "All numbers"),
        id="numbers",
        aria_labelledby="numbers-title",
    )


def origin_section(comparison: Comparison, summary: dict[str, Any]) -> Markup:
    """Command, versions, workload, profile and configuration: enough to run it again."""
    blocks = [
        ("Workload", _yaml(summary["workload"])),
        ("Versions", _yaml(summary["versions"])),
        ("Engine profile", _yaml(summary["profile"])),
        ("Effective configuration", _yaml(comparison.config)),
    ]
    return tag(
        "section",
        tag("h2", "Where this comes from", id="origin-title"),
        tag("p", "What was run, on what, with which settings.", class_="how"),
        tag("pre", tag("code", comparison.command or "command not recorded"), tabindex=0, aria_label="Command"),
        *[
            tag("details", tag("summary", title), tag("pre", tag("code", words), tabindex=0, aria_label=title))
            for title, words in blocks
            if words
        ],
        tag("footer", "Measured by dualpath_ray. Method and terms: DualPath, arXiv 2602.21548."),
        id="origin",
        aria_labelledby="origin-title",
    )


def _node_rows(runs: list[dict[str, Any]], label: str, meaning: str, name: str, unit: Unit) -> list[Markup]:
    nodes = list(dict.fromkeys(node for run in runs for node in run[name]))
    if not nodes:
        return []
    head = tag("tr", tag("th", label, tag("small", meaning), scope="rowgroup", colspan=len(runs) + 1), class_="group")
    return [
        head,
        *[
            tag("tr", tag("th", node, scope="row"), *[tag("td", number(run[name].get(node), unit)) for run in runs])
            for node in nodes
        ],
    ]


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(json_clean(values), sort_keys=False, allow_unicode=True).rstrip() if values else ""
