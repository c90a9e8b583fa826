"""Job completion time of every run as bars, with the bound that the storage NICs set."""

from typing import Any

from dualpath_ray.observability.chart import LABEL_WIDTH, VALUE_WIDTH, WIDTH, Chart, box, rule, text
from dualpath_ray.observability.format import seconds, times
from dualpath_ray.observability.markup import join, tag
from dualpath_ray.observability.mode_words import mode_colour, mode_note, single_path
from dualpath_ray.observability.run_record import Comparison

_ROW, _BAR, _TOP = 46.0, 20.0, 30.0


def jct_chart(comparison: Comparison, summary: dict[str, Any]) -> Chart:
    """One bar a run; the dashed line is the single path's time divided by the ideal speedup."""
    runs = comparison.runs
    longest = max((run.jct_s for run in runs), default=0.0) or 1.0
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    single = single_path(runs)
    baseline = single.jct_s if single else None
    ideal = summary["ideal_speedup"]
    height = _TOP + _ROW * len(runs)
    parts = []
    if baseline and ideal and ideal > 1 and any(r.read_path != "prefill_only" for r in runs):
        x = LABEL_WIDTH + room * baseline / ideal / longest
        words = f"storage bound {seconds(baseline / ideal)} ({times(ideal)})"
        parts += [text(x, 12, words, "soft small middle")]
        bound = rule(x, 18, x, height - _ROW + _BAR + 10, "bound")
    else:
        bound = None
    bars, values = [], []
    for index, run in enumerate(runs):
        y = _TOP + index * _ROW
        width = room * run.jct_s / longest
        value = seconds(run.jct_s)
        parts += [
            text(0, y + 13, run.mode, "strong"),
            text(0, y + 29, mode_note(run), "soft small"),
        ]
        bars.append(box(LABEL_WIDTH, y + 4, width, _BAR, mode_colour(run), f"{run.mode}: {value}", rx=2))
        after = None
        if baseline and run.jct_s > 0 and run is not single:
            after = tag("tspan", times(baseline / run.jct_s), class_="soft faster", dx=8)
        values.append(text(LABEL_WIDTH + width + 10, y + 19, join(value, after), "strong halo"))
    label = "Job completion time: " + ", ".join(f"{run.mode} {seconds(run.jct_s)}" for run in runs)
    return Chart(join(*parts, *bars, bound, *values), height, label)
