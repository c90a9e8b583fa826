"""The report's opening: the result as a sentence, then as a few large numbers."""

from typing import Any

from dualpath_ray.observability.format import NONE, amount, percent, seconds, times
from dualpath_ray.observability.headline import alarms, headline, token_sentence
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.mode_words import shape, single_path
from dualpath_ray.observability.run_record import Comparison


def opening(comparison: Comparison, summary: dict[str, Any]) -> Markup:
    """Headline, what was run, and the numbers that matter."""
    return tag(
        "header",
        tag("p", _setting(comparison, summary), class_="kicker"),
        tag("h1", headline(comparison, summary)),
        tag("p", token_sentence(summary), class_="lead"),
        *[tag("p", alarm, class_="alarm", role="alert") for alarm in alarms(summary)],
        tag("dl", *[_number(*entry) for entry in _numbers(comparison, summary)], class_="numbers"),
    )


def _setting(comparison: Comparison, summary: dict[str, Any]) -> str:
    if not comparison.runs:
        return "DualPath"
    run = summary["runs"][0]
    words = [
        "DualPath",
        shape(comparison.runs[0]),
        amount(run["num_trajectories"], "trajectory"),
        amount(run["num_turns"], "turn"),
    ]
    model = comparison.config.get("model")
    return " · ".join(words if not model else [*words, str(model)])


def _numbers(comparison: Comparison, summary: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(number, what it is, whether it leads)."""
    runs = summary["runs"]
    dual = next((r for r in runs if r["read_path"] == "scheduled" and not r["oracle"]), None)
    baseline = single_path(comparison.runs)
    single = next((r for r, run in zip(runs, comparison.runs, strict=True) if run is baseline), None)
    shown = dual or single or (runs[0] if runs else None)
    entries: list[tuple[str, str, bool]] = []
    speedup = summary["speedup"] or summary["speedup_over_basic"]
    if speedup is not None:
        bound = f"storage bound {times(summary['ideal_speedup'])}"
        entries.append((times(speedup), f"as fast as the single path; {bound}", True))
    if shown is None:
        return entries
    if dual and single:
        entries.append(
            (seconds(dual["jct_s"]), f"job completion on both paths; {seconds(single['jct_s'])} on one", False)
        )
    else:
        entries.append((seconds(shown["jct_s"]), f"job completion, {shown['mode']}", False))
    first = f"mean time to first token, {shown['mode']}"
    if dual and single:
        first = f"mean time to first token; {seconds(single['ttft_s']['mean'])} on one path"
    entries.append((seconds(shown["ttft_s"]["mean"]), first, False))
    entries.append((percent(shown["hit_ratio"]), "of prompt tokens were loaded from storage, not computed", False))
    if shown["snic_utilisation_ratio"] is not None:
        balance = times(shown["snic_max_over_mean_ratio"])
        words = f"of the storage NIC pool in use while loading; busiest NIC {balance} the mean"
        entries.append((percent(shown["snic_utilisation_ratio"]), words, False))
    return [entry for entry in entries if entry[0] != NONE]


def _number(value: str, meaning: str, leads: bool) -> Markup:
    return tag("div", join(tag("dt", meaning), tag("dd", value)), class_="hero" if leads else None)
