"""What is printed when a comparison is over: a table for the terminal, or the same as plain lines."""

import sys
from typing import Any, TextIO

from dualpath_ray.observability.format import number
from dualpath_ray.observability.metric_names import RUN_METRICS, Metric

_SHOWN = (
    "jct_s",
    "ttft_s.mean",
    "ttft_s.p99",
    "ttst_s.p50",
    "tpot_s.p50",
    "tokens_per_s",
    "hit_ratio",
    "recomputed_tokens",
    "load_failures",
    "snic_max_over_mean_ratio",
    "snic_utilisation_ratio",
)


def closing_table(summary: dict[str, Any]) -> Any:
    """A ``rich.table.Table``: the main numbers down, the runs across."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    for run in summary["runs"]:
        dual = run["read_path"] == "scheduled" and not run["oracle"]
        table.add_column(escape(run["mode"]), justify="right", style="bold" if dual else "", overflow="fold")
    for metric in _metrics():
        table.add_row(metric.label, *_values(metric, summary))
    return table


def closing_text(summary: dict[str, Any]) -> str:
    """The same as lines of plain ASCII text, for logs and narrow or dumb terminals."""
    rows = [("", *[run["mode"] for run in summary["runs"]])]
    rows += [(metric.label, *_values(metric, summary)) for metric in _metrics()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *[cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines).replace("×", "x").replace("–", "-")


def print_closing(summary: dict[str, Any], stream: TextIO | None = None) -> None:
    """Print the table to standard output, unless given another stream; plain text where that is no terminal."""
    from rich.console import Console

    console = Console(file=stream if stream is not None else sys.stdout)
    if console.is_terminal and console.encoding.lower().startswith("utf"):
        console.print(closing_table(summary))
    else:
        print(closing_text(summary), file=console.file)


def _metrics() -> list[Metric]:
    return [metric for metric in RUN_METRICS if metric.name in _SHOWN]


def _values(metric: Metric, summary: dict[str, Any]) -> list[str]:
    return [number(metric.of(run), metric.unit) for run in summary["runs"]]
