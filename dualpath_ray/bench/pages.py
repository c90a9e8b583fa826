"""``dualpath bench tables``: the committed results of all benchmarks as one page of tables and pictures."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.plots import pictures

_LISTS = ("rows", "scaling", "pairs", "runs", "idle")  # what a result calls its measurements
_DROPPED = {"read_spans", "nics", "engines"}  # of a run: curves, not figures


def page(directory: Path) -> str:
    """Markdown of every ``*.json`` in a directory, by name; it shows the pictures that stand beside them.

    Raises: ConfigError naming the file that is no result of a benchmark.
    """
    lines = [
        "# Benchmarks",
        "",
        "Written by `dualpath bench tables`; each table stands in the file it is named for.",
        "",
    ]
    for file in _results(directory):
        with _naming(file):
            lines += _section(file, json.loads(file.read_text()))
    return "\n".join(lines).rstrip() + "\n"


def all_pictures(directory: Path) -> dict[str, str]:
    """SVG by file name. Raises: ConfigError as ``page``."""
    found: dict[str, str] = {}
    for file in _results(directory):
        with _naming(file):
            found |= {name: svg for name, _, svg in pictures(file.stem, json.loads(file.read_text()))}
    return found


def _results(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.json"))
    if not files:
        raise ConfigError(f"{directory}: there is no result of a benchmark in it (*.json)")
    return files


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ConfigError(f"{file}: it is no result of a benchmark ({error})") from error


def _section(file: Path, data: Mapping[str, Any]) -> list[str]:
    versions = data["versions"]
    gpu = f", {data['gpu']}" if "gpu" in data else ""
    machine = f"{versions['cores']} cores of {versions['device']}{gpu}"
    lines = [f"## {file.stem}", "", f"`{data['command']}` on {machine}, Python {versions['python']}.", ""]
    single = {
        key: value for key, value in data.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if single:
        lines += [*_table([single]), ""]
    for name in _LISTS:
        if isinstance(data.get(name), list) and data[name]:
            lines += [*_table(data[name]), ""]
    for name, title, _ in pictures(file.stem, data):
        lines += [f"![{title}]({file.parent.name}/{name})", ""]
    lines += [f"Not measured: {reason}" for reason in data.get("skipped") or []]
    return [*lines, ""] if data.get("skipped") else lines


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns that hold a figure or a word in some row."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in _DROPPED))
    keys = [key for key in keys if any(_is_cell(row.get(key)) for row in rows)]
    lines = [f"| {' | '.join(key.replace('_', ' ') for key in keys)} |", "|---" * len(keys) + "|"]
    return lines + [f"| {' | '.join(_cell(row.get(key)) for key in keys)} |" for row in rows]


def _is_cell(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return value.replace("|", "/") if isinstance(value, str) else ""
