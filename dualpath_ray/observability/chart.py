"""What every chart is made of: a body in its own coordinates, its size, its words; axes and marks."""

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from dualpath_ray.observability.markup import Markup, tag

WIDTH = 880.0
LABEL_WIDTH = 165.0
VALUE_WIDTH = 118.0  # right of the drawing; times are to the same scale in every chart


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing ``WIDTH`` wide and ``height`` high; ``label`` says in words what it shows, for screen readers."""

    body: Markup
    height: float
    label: str

    def svg(self) -> Markup:
        """As an element of an HTML page that holds ``chart_style``."""
        return tag(
            "svg",
            tag("title", self.label),
            self.body,
            viewBox=f"0 0 {WIDTH:g} {self.height:g}",
            role="img",
            aria_label=self.label,
            class_="chart",
        )


@cache
def chart_style() -> str:
    """CSS of the charts; colours come from ``palette.style_variables``."""
    return resources.files("dualpath_ray.observability").joinpath("chart.css").read_text("utf-8")


def text(x: float, y: float, words: str, kind: str = "") -> Markup:
    """Words with their baseline at y; ``kind`` holds classes of ``chart.css``."""
    return tag("text", words, x=x, y=y, class_=kind or None)


def box(x: float, y: float, width: float, height: float, kind: str, says: str | None = None, **more: Any) -> Markup:
    """A rectangle; ``says`` is shown when the pointer rests on it."""
    tip = tag("title", says) if says else None
    return tag("rect", tip, x=x, y=y, width=max(0.0, width), height=height, class_=kind, **more)


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def shifted(body: Markup, y: float) -> Markup:
    """The same drawing further down."""
    return tag("g", body, transform=f"translate(0 {y:g})")


def ticks(stop: float, most: int = 8) -> list[float]:
    """Round values from 0 to ``stop`` for an axis; at most ``most`` steps."""
    if stop <= 0:
        return [0.0]
    raw = stop / most
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(scale * m for m in (1, 2, 5, 10) if scale * m >= raw * (1 - 1e-9))
    return [i * step for i in range(int(stop / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """``0.5 -> '0.5'``, ``20.0 -> '20'``."""
    return f"{value:.6g}"
