"""Speedup of the dual path over the single path, from storage-bound (slow NICs) to compute-bound (fast ones)."""

import math
from collections.abc import Sequence

from dualpath_ray.base.units import bytes_per_s
from dualpath_ray.observability.chart import WIDTH, Chart, rule, shifted, text, tick_label, ticks
from dualpath_ray.observability.format import times
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.standalone import standalone_svg

_LEFT, _RIGHT = 46.0, WIDTH - 12.0
_TOP, _BOTTOM, _AXIS = 16.0, 236.0, 46.0
_TITLE = 40.0
_ROOM = 2.0  # left and right of the points, as a factor of the rate: with a single one there is still a tick to read


def speedup_svg(points: Sequence[tuple[int, float]], bound: float) -> str:
    """A standalone SVG.

    Args: points: (rate of a storage NIC in bits per second, speedup over prefill_only), in any order; bound: the
        speedup that the NICs which may read allow, (P + D) / P.
    """
    chart = speedup_chart(points, bound)
    title = "Speedup over the single path, by rate of a storage NIC"
    body = join(text(0, 16, title, "title"), shifted(chart.body, _TITLE))
    return standalone_svg(body, _TITLE + chart.height, chart.label)


def speedup_chart(points: Sequence[tuple[int, float]], bound: float) -> Chart:
    """The drawing alone; arguments as for ``speedup_svg``. The rate's axis is logarithmic and in MB/s."""
    measured = sorted((bytes_per_s(bps) / 1e6, speedup) for bps, speedup in points)
    rates = [rate for rate, _ in measured] or [1.0]
    low, high = math.log10(rates[0] / _ROOM), math.log10(rates[-1] * _ROOM)
    top = 1.12 * max([bound, 1.0, *(speedup for _, speedup in measured)])

    def x_of(rate: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (math.log10(rate) - low) / (high - low)

    def y_of(speedup: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * speedup / top

    parts: list[Markup] = []
    for value in ticks(top, 6):
        parts += [
            rule(_LEFT, y_of(value), _RIGHT, y_of(value), "grid"),
            text(_LEFT - 8, y_of(value) + 4, f"{tick_label(value)}×", "soft small end"),
        ]
    for rate in _log_ticks(low, high):
        parts += [
            rule(x_of(rate), _BOTTOM, x_of(rate), _BOTTOM + 5, "grid"),
            text(x_of(rate), _BOTTOM + 19, tick_label(rate), "soft small middle"),
        ]
    parts += [
        rule(_LEFT, y_of(bound), _RIGHT, y_of(bound), "bound"),
        text(_RIGHT, y_of(bound) - 6, f"storage bound {times(bound)}", "soft small end halo"),
        text(_LEFT + 6, y_of(1) - 6, "as fast as the single path", "soft small halo"),
        text(_LEFT, _BOTTOM + 40, "← storage-bound", "soft small"),
        text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, "rate of each storage NIC, MB/s", "soft small middle"),
        text(_RIGHT, _BOTTOM + 40, "compute-bound →", "soft small end"),
    ]
    places = [(x_of(rate), y_of(speedup)) for rate, speedup in measured]
    if len(places) > 1:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(tag("path", d=path, style="fill:none;stroke:var(--dual);stroke-width:2"))
    for (rate, speedup), (x, y) in zip(measured, places, strict=True):
        says = f"{tick_label(rate)} MB/s: {times(speedup)}"
        parts += [
            tag("circle", tag("title", says), cx=x, cy=y, r=5, class_="dual"),
            text(x, y + 22, times(speedup), "strong middle halo"),
        ]
    told = ", ".join(f"{times(speedup)} at {tick_label(rate)} MB/s" for rate, speedup in measured) or "nothing measured"
    return Chart(join(*parts), _BOTTOM + _AXIS, f"Speedup over the single path: {told}. Storage bound {times(bound)}.")


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values between two decimal logarithms: 1, 2 and 5 of every decade, only its start where there are many."""
    steps = (1, 2, 5) if high - low <= 4 else (1,)
    values = [step * 10.0**decade for decade in range(math.floor(low), math.ceil(high) + 1) for step in steps]
    return [value for value in values if low <= math.log10(value) <= high]
