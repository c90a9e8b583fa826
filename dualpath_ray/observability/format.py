"""Numbers as people read them, in reports and on the terminal. None is an en dash."""

from typing import Any

from dualpath_ray.base.units import format_bytes
from dualpath_ray.observability.metric_names import Unit

NONE = "–"


def seconds(value: float | None) -> str:
    """``84.23 -> '84.2 s'``, ``0.0123 -> '12 ms'``, ``754 -> '12 min 34 s'``."""
    if value is None:
        return NONE
    if value >= 600:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    if value >= 100:
        return f"{value:.0f} s"
    if value >= 10:
        return f"{value:.1f} s"
    if value >= 0.1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if 0 < value < 0.01 else f"{value * 1000:.0f} ms"


def percent(ratio: float | None) -> str:
    """``0.973 -> '97.3 %'``."""
    return NONE if ratio is None else f"{ratio * 100:.1f} %"


def times(ratio: float | None) -> str:
    """``1.8712 -> '1.87×'``."""
    return NONE if ratio is None else f"{ratio:.2f}×"


def count(value: float | None) -> str:
    """``12345 -> '12,345'``."""
    return NONE if value is None else f"{value:,.0f}"


def number(value: Any, unit: Unit) -> str:
    """A number of the summary in its unit."""
    if value is None:
        return NONE
    if unit is Unit.SECONDS:
        return seconds(value)
    if unit is Unit.BYTES:
        return format_bytes(value)
    if unit is Unit.RATIO:
        return percent(value)
    if unit is Unit.TIMES:
        return times(value)
    if unit is Unit.TOKENS_PER_S:
        return f"{value:,.1f}"
    return count(value)


def amount(number_of: int, thing: str) -> str:
    """``(1, 'turn') -> '1 turn'``, ``(2, 'trajectory') -> '2 trajectories'``."""
    if number_of == 1:
        return f"1 {thing}"
    return f"{number_of:,} {thing[:-1]}ies" if thing.endswith("y") else f"{number_of:,} {thing}s"
