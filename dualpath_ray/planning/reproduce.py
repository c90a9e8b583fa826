"""``dualpath reproduce``: the paper's tables and figures beside ours, as one report."""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dualpath_ray import __version__
from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.chart import chart_style
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.palette import style_variables
from dualpath_ray.planning.experiments import EXPERIMENTS, Experiment
from dualpath_ray.planning.figures import FIGURES
from dualpath_ray.planning.lab import Lab
from dualpath_ray.planning.row_chart import number, row_chart
from dualpath_ray.planning.rows import Row, verdict

TITLES = {
    "table1": "Table 1: KV-cache to load per computation; and what follows from data sheets",
    "table2": "Table 2: the traces",
    "table3": "Table 3: 1,152 GPUs",
    "fig7": "Figure 7: offline, all agents at once",
    "fig8": "Figure 8: prefill and decode nodes",
    "fig9": "Figure 9: appends scaled",
    "fig10": "Figure 10: online, agents arriving",
    "fig12": "Figure 12: ablation",
    "fig13": "Figure 13: balance of the storage NICs",
    "fig14": "Figure 14: balance of attention",
}
Experiments = Mapping[str, Sequence[Experiment]]
_HOW = (
    "Simulated by the scheduler and the NIC schedules of the live system, on hardware and models given as data sheets. "
    "Four numbers of one system are calibrated, DS 660B on 2P4D: the offline job completion time of 2K agents, and TTFT, "
    "TTST and TPOT at 0.4 agents/s. Table 2 is what the trace generator is made to match. Everything else is predicted. "
    "Beneath a figure with a number that is off stands an experiment that asks why."
)


def run_reproduce(
    names: Sequence[str], config_dir: Path, out: Path, command: str, echo: Callable[[str], None]
) -> list[Row]:
    """Run the figures and write ``results.json``, ``README.md`` and ``index.html``.

    What is not asked for is kept from an earlier ``results.json`` in the directory.
    Raises: ConfigError naming ``--out`` when it cannot be written.
    """
    lab = Lab(config_dir, echo)
    by_figure, experiments = _earlier(out / "results.json")
    for name in names:
        echo(TITLES[name])
        by_figure[name] = FIGURES[name](lab)
        experiments[name] = list(EXPERIMENTS[name](lab)) if name in EXPERIMENTS else []
        for row in by_figure[name]:
            echo(
                f"    {row.name}: paper {number(row.paper, row.unit)}, ours {number(row.ours, row.unit)} ({row.deviation:+.1%})"
            )
        for experiment in experiments[name]:
            echo(f"    {experiment.question} {experiment.answer}")
        write(out, by_figure, experiments, command)
    rows = [row for name in FIGURES for row in by_figure.get(name, [])]
    echo(verdict(rows))
    return rows


def write(out: Path, by_figure: Mapping[str, list[Row]], experiments: Experiments, command: str) -> None:
    """The three files. Raises: ConfigError naming ``--out``."""
    ordered = {name: by_figure[name] for name in FIGURES if name in by_figure}
    data = {
        "command": command,
        "dualpath_ray": __version__,
        "device": "simulated",
        "rows": [row.to_json() for found in ordered.values() for row in found],
        "experiments": [each.to_json() for name in ordered for each in experiments.get(name, ())],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(data, indent=1) + "\n")
        (out / "README.md").write_text(markdown(ordered, experiments, command))
        (out / "index.html").write_text(html(ordered, experiments, command))
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror or error}") from error


def markdown(by_figure: Mapping[str, list[Row]], experiments: Experiments, command: str) -> str:
    """The report as Markdown."""
    rows = [row for found in by_figure.values() for row in found]
    lines = ["# The paper's numbers and ours", "", f"{_HOW} {verdict(rows)}", "", f"Command: `{command}`", ""]
    for name, found in by_figure.items():
        lines += [f"## {TITLES[name]}", "", "| | paper | ours | deviation | |", "|---|---:|---:|---:|---|"]
        for row in found:
            kind = f"{row.kind}, **off**" if row.is_off else row.kind
            cells = (row.name, number(row.paper, row.unit), number(row.ours, row.unit), f"{row.deviation:+.1%}", kind)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
        for experiment in experiments.get(name, ()):
            lines += [f"**{experiment.question}** {experiment.answer}", ""]
            lines += [f"| {' | '.join(experiment.columns)} |", "|---" + "|---:" * (len(experiment.columns) - 1) + "|"]
            lines += [f"| {' | '.join(cells)} |" for cells in experiment.rows]
            lines.append("")
    return "\n".join(lines)


def html(by_figure: Mapping[str, list[Row]], experiments: Experiments, command: str) -> str:
    """The report as one page that needs nothing else."""
    rows = [row for found in by_figure.values() for row in found]
    style = resources.files("dualpath_ray.observability").joinpath("report.css").read_text("utf-8")
    title = "The paper’s numbers and ours"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(style_variables() + chart_style() + style)),
    )
    header = tag(
        "header",
        tag("p", "DualPath · simulated", class_="kicker"),
        tag("h1", title),
        tag("p", verdict(rows), class_="lead"),
        tag("p", _HOW, class_="how"),
    )
    sections = [_section(name, found, experiments.get(name, ())) for name, found in by_figure.items()]
    body = tag("body", tag("main", header, *sections, tag("footer", "Command: ", tag("code", command))))
    return join(Markup("<!doctype html>\n"), tag("html", head, body, lang="en"), Markup("\n"))


def _section(name: str, rows: Sequence[Row], experiments: Sequence[Experiment]) -> Markup:
    cells = [("", "words"), ("paper", None), ("ours", None), ("deviation", None), ("", "left")]
    head = tag("tr", *[tag("th", words, scope="col", class_=kind) for words, kind in cells])
    body = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", number(row.paper, row.unit)),
            tag("td", number(row.ours, row.unit)),
            tag("td", f"{row.deviation:+.1%}"),
            tag("td", tag("b", "predicted, off") if row.is_off else row.kind),
        )
        for row in rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body))
    figure = tag("figure", tag("div", row_chart(rows).svg(), class_="scroll"), class_="card")
    asked = [_experiment(each) for each in experiments]
    return tag("section", tag("h2", TITLES[name]), figure, tag("div", table, class_="scroll"), *asked, id=name)


def _experiment(experiment: Experiment) -> Markup:
    head = tag("tr", *[tag("th", words, scope="col") for words in experiment.columns])
    body = [
        tag("tr", tag("th", first, scope="row"), *[tag("td", cell) for cell in others])
        for first, *others in experiment.rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body))
    return join(tag("h3", experiment.question), tag("p", experiment.answer), tag("div", table, class_="scroll"))


def _earlier(path: Path) -> tuple[dict[str, list[Row]], dict[str, list[Experiment]]]:
    """Rows and experiments of an earlier report; none when there is no report that can be read."""
    try:
        found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())
        rows = [Row(**{key: row[key] for key in Row.__slots__}) for row in found["rows"]]
        asked = [Experiment.from_json(each) for each in found["experiments"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {}
    by_figure: dict[str, list[Row]] = {}
    for row in rows:
        by_figure.setdefault(row.figure, []).append(row)
    experiments: dict[str, list[Experiment]] = {}
    for each in asked:
        experiments.setdefault(each.figure, []).append(each)
    return by_figure, experiments
