"""The report of ``dualpath reproduce``: the same chapters as Markdown and as one page of HTML."""

from collections.abc import Mapping, Sequence

from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.page import page
from dualpath_ray.planning.chapter import Chapter
from dualpath_ray.planning.experiments import Experiment
from dualpath_ray.planning.row_chart import number, row_chart
from dualpath_ray.planning.rows import verdict

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
    "live": "Live: Figure 8's equal pairs on emulated NICs",
}
_HOW = (
    "Simulated by the scheduler and the NIC schedules of the live system, on hardware and models given as data sheets. "
    "Four numbers of one system are calibrated, DS 660B on 2P4D: the offline job completion time of 2K agents, and TTFT, "
    "TTST and TPOT at 0.4 agents/s. Two of these fix shares of peaks that hold for every model, two fix delays of this one "
    "alone. Decode's cost of a sequence follows from a figure that DeepSeek has published; three constants were set by hand "
    "with Figure 12 in view, which therefore counts as calibrated, though it is not met (dualpath_ray/config/cost_files). "
    "Table 2 is what the trace generator is made to match. Everything else is predicted. The compute quota is 300 ms over all "
    "layers of a batch. Experiments that ask why a number is off stand beneath its figure. Live rows are not simulated: they are "
    "measured by `dualpath bench pool`, with a small model on emulated NICs."
)


def markdown(chapters: Mapping[str, Chapter]) -> str:
    """The report as Markdown."""
    lines = ["# The paper's numbers and ours", "", f"{_HOW} {_verdict(chapters)}", ""]
    lines += [f"Command: `{command}`" for command in _commands(chapters)]
    lines.append("")
    for name, chapter in chapters.items():
        lines += [f"## {TITLES[name]}", "", "| | paper | ours | deviation | |", "|---|---:|---:|---:|---|"]
        for row in chapter.rows:
            kind = f"{row.kind}, **off**" if row.is_off else row.kind
            cells = (row.name, number(row.paper, row.unit), number(row.ours, row.unit), f"{row.deviation:+.1%}", kind)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
        for experiment in chapter.experiments:
            lines += [f"**{experiment.question}** {experiment.answer}", ""]
            lines += [f"| {' | '.join(experiment.columns)} |", "|---" + "|---:" * (len(experiment.columns) - 1) + "|"]
            lines += [f"| {' | '.join(cells)} |" for cells in experiment.rows]
            lines.append("")
    return "\n".join(lines)


def html(chapters: Mapping[str, Chapter]) -> str:
    """The report as one page that needs nothing else."""
    title = "The paper’s numbers and ours"
    header = tag(
        "header",
        tag("p", "DualPath · simulated", class_="kicker"),
        tag("h1", title),
        tag("p", _verdict(chapters), class_="lead"),
        tag("p", _HOW, class_="how"),
    )
    sections = [_section(name, chapter) for name, chapter in chapters.items()]
    commands = [tag("p", "Command: ", tag("code", command)) for command in _commands(chapters)]
    body = tag("body", tag("main", header, *sections, tag("footer", *commands)))
    return page(title, body)


def _verdict(chapters: Mapping[str, Chapter]) -> str:
    return verdict([row for chapter in chapters.values() for row in chapter.rows])


def _commands(chapters: Mapping[str, Chapter]) -> Sequence[str]:
    """Each once, in order."""
    return list(dict.fromkeys(chapter.command for chapter in chapters.values()))


def _section(name: str, chapter: Chapter) -> Markup:
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
        for row in chapter.rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body))
    figure = tag("figure", tag("div", row_chart(chapter.rows).svg(), class_="scroll"), class_="card")
    asked = [_experiment(each) for each in chapter.experiments]
    return tag("section", tag("h2", TITLES[name]), figure, tag("div", table, class_="scroll"), *asked, id=name)


def _experiment(experiment: Experiment) -> Markup:
    head = tag("tr", *[tag("th", words, scope="col") for words in experiment.columns])
    body = [
        tag("tr", tag("th", first, scope="row"), *[tag("td", cell) for cell in others])
        for first, *others in experiment.rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body))
    return join(tag("h3", experiment.question), tag("p", experiment.answer), tag("div", table, class_="scroll"))
