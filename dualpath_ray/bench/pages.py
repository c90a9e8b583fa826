"""``dualpath bench tables``: the committed results of all benchmarks as one page of tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError

_LISTS = ("rows", "pairs", "runs", "idle")  # what a result calls its measurements
_DROPPED = {"read_spans", "nics", "engines"}  # of a run: curves, not figures


def page(directory: Path) -> str:
    """Markdown of every ``*.json`` in a directory, by name.

    Raises: ConfigError naming the file that is no result of a benchmark.
    """
    files = sorted(directory.glob("*.json"))
    if not files:
        raise ConfigError(f"{directory}: there is no result of a benchmark in it (*.json)")
    lines = [
        "# Benchmarks",
        "",
        "Written by `dualpath bench tables`; each table stands in the file it is named for.",
        "",
    ]
    for file in files:
        try:
            data = json.loads(file.read_text())
            lines += _section(file, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{file}: it is no result of a benchmark ({error})") from error
    return "\n".join(lines).rstrip() + "\n"


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
