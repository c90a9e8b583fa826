"""``dualpath reproduce``: the paper's tables and figures beside ours, as one report."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from dualpath_ray import __version__
from dualpath_ray.base.errors import ConfigError
from dualpath_ray.planning.chapter import Chapter, from_json, to_json
from dualpath_ray.planning.experiments import EXPERIMENTS
from dualpath_ray.planning.figures import FIGURES
from dualpath_ray.planning.lab import Lab
from dualpath_ray.planning.live_rows import live_rows
from dualpath_ray.planning.reproduce_report import TITLES, html, markdown
from dualpath_ray.planning.row_chart import number
from dualpath_ray.planning.rows import Row, verdict


def run_reproduce(
    names: Sequence[str], config_dir: Path, live: Path, out: Path, command: str, echo: Callable[[str], None]
) -> list[Row]:
    """Run the figures and write ``results.json``, ``README.md`` and ``index.html``.

    What is not asked for is kept from an earlier ``results.json`` in the directory.
    Raises: ConfigError naming ``--out`` when it cannot be written, ``--live`` when its file cannot be used.
    """
    lab = Lab(config_dir, echo)
    chapters = _earlier(out / "results.json")
    if "live" in names:  # before the hour that the others may take
        chapters["live"] = Chapter(command, live_rows(live))
    for name in names:
        echo(TITLES[name])
        if name != "live":
            found = list(EXPERIMENTS[name](lab)) if name in EXPERIMENTS else []
            chapters[name] = Chapter(command, FIGURES[name](lab), found)
        for row in chapters[name].rows:
            ours, theirs = number(row.ours, row.unit), number(row.paper, row.unit)
            echo(f"    {row.name}: paper {theirs}, ours {ours} ({row.deviation:+.1%})")
        for experiment in chapters[name].experiments:
            echo(f"    {experiment.question} {experiment.answer}")
        chapters = {each: chapters[each] for each in TITLES if each in chapters}
        _write(out, chapters)
    rows = [row for chapter in chapters.values() for row in chapter.rows]
    echo(verdict(rows))
    return rows


def _write(out: Path, chapters: dict[str, Chapter]) -> None:
    data = {"dualpath_ray": __version__, "device": "simulated", **to_json(chapters)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(data, indent=1) + "\n")
        (out / "README.md").write_text(markdown(chapters))
        (out / "index.html").write_text(html(chapters))
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror or error}") from error


def _earlier(path: Path) -> dict[str, Chapter]:
    """Chapters of an earlier report; none when there is no report that can be read."""
    try:
        return from_json(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
