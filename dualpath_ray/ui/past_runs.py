"""Results of past runs, to compare: what ``dualpath rollout`` and ``simulate`` have left in a directory."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dualpath_ray.base.units import format_bytes
from dualpath_ray.observability.format import amount, count, percent, seconds, times

MOST = 100  # results, newest first
REPORT = "report.html"


def past_runs(folder: Path) -> list[dict[str, Any]]:
    """A row for every run of every result in a directory, the newest result first. What cannot be read is left out."""
    return [row for path in _results(folder) for row in _rows(path)]


def report_of(folder: Path, name: str) -> Path | None:
    """The report of a result; None when the directory has no such result, whatever the name."""
    for path in _results(folder):
        if path.name == name and (path / REPORT).is_file():
            return path / REPORT
    return None


def _results(folder: Path) -> list[Path]:
    """Folders with a summary. A link is left out: it would show a result twice, or one from elsewhere."""
    try:
        found = [path for path in folder.iterdir() if not path.is_symlink() and (path / "summary.json").is_file()]
        return sorted(found, key=lambda path: (path / "summary.json").stat().st_mtime, reverse=True)[:MOST]
    except OSError:
        return []


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        summary = json.loads((path / "summary.json").read_text())
        rows = [run_row(path.name, number, run) for number, run in enumerate(summary["runs"])]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # half written, or somebody else's file
        return
    for row in rows:
        yield {**row, "report": (path / REPORT).is_file()}


def run_row(result: str, number: int, run: Mapping[str, Any]) -> dict[str, Any]:
    """One run of a summary, as numbers and in words.

    Raises: KeyError, TypeError or AttributeError when this is not a run of ``summarize``.
    """
    ttft_s = (run["ttft_s"] or {}).get("p50")
    return {
        "id": f"{result}/{number}",
        "result": result,
        "mode": run["mode"],
        "read_path": run["read_path"],
        "shape": f"{run['prefill_nodes']}P{run['decode_nodes']}D",
        "turns": count(run["num_turns"]),
        # Runs compare where this is the same.
        "work": f"{amount(run['num_turns'], 'turn')} of {count(run['prompt_tokens'])} prompt tokens",
        "numbers": {
            "jct_s": run["jct_s"],
            "ttft_s": ttft_s,
            "tokens_per_s": run["tokens_per_s"],
            "hit_ratio": run["hit_ratio"],
            "snic_max_over_mean_ratio": run["snic_max_over_mean_ratio"],
            "snic_bytes": sum(run["snic_bytes"].values()),
        },
        "words": {
            "jct_s": seconds(run["jct_s"]),
            "ttft_s": seconds(ttft_s),
            "tokens_per_s": "–" if run["tokens_per_s"] is None else f"{run['tokens_per_s']:,.1f}",
            "hit_ratio": percent(run["hit_ratio"]),
            "snic_max_over_mean_ratio": times(run["snic_max_over_mean_ratio"]),
            "snic_bytes": format_bytes(sum(run["snic_bytes"].values())),
        },
    }
