"""Pictures of benchmark results: how rates grow with the size of blocks, with their number, and with requests at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualpath_ray.observability.chart_lines import lines_svg

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture of a result. ``lines``: what a row adds, as (line, y); rows without the key ``x`` are left out."""

    title: str
    rows: str  # key of the result's list
    x: str
    words: Callable[[float], str]
    unit: str
    lines: Callable[[Row], Sequence[tuple[str, float]]]
    beside: str = ""
    per: str = ""  # key whose values each get a picture


def _by_name(row: Row) -> list[tuple[str, float]]:
    return [(row["limit_name"], row["limit_bytes_per_s"] / 1e9), (row["name"], row["bytes_per_s"] / 1e9)]


def _to_device(row: Row) -> list[tuple[str, float]]:
    if not row["name"].endswith(", to the device"):
        return []
    return [(name.removesuffix(", to the device"), y) for name, y in _by_name(row)]


def _by_size(row: Row) -> list[tuple[str, float]]:
    return [(_size(row["block_bytes"]), row["bytes_per_s"] / 1e9)]


def _of_batch(row: Row) -> list[tuple[str, float]]:
    rate = row["bytes_per_s"] / 1e9
    return [
        (row["limit_name"], row["limit_bytes_per_s"] / 1e9),
        ("batch after batch", rate),
        ("one batch alone", rate * row["overlapped_s"] / row["alone_s"]),
        ("copies, then computation", rate * row["overlapped_s"] / row["serial_s"]),
    ]


def _of_step(row: Row) -> list[tuple[str, float]]:
    return [
        ("weights and KV read once", row["batch"] / row["limit_s"]),
        ("recorded graph", row["batch"] / row["graph_s"]),
        ("launched one by one", row["batch"] / row["launched_s"]),
    ]


def _size(value: float) -> str:
    return f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"


def _number(value: float) -> str:
    return f"{value:,.0f}"


_KV = "cached KV, GB/s, over the number of requests of a batch"
PLOTS: Mapping[str, Sequence[Plot]] = {
    "h2d": [
        Plot(
            "Scattered blocks to the GPU, by size of a block",
            "rows",
            "block_bytes",
            _size,
            "GB/s",
            _to_device,
            "one large copy",
        ),
        Plot(
            "Scattered blocks to the GPU, by number of blocks",
            "scaling",
            "num_blocks",
            _number,
            "GB/s by the way chosen for each size",
            _by_size,
        ),
    ],
    "layerwise": [
        Plot(
            "Layerwise prefill of {}",
            "rows",
            "batch",
            _number,
            _KV,
            _of_batch,
            "the larger of computation and copies",
            "name",
        )
    ],
    "decode": [
        Plot(
            "Decode of {}",
            "rows",
            "batch",
            _number,
            "tokens/s over the number of sequences of a step",
            _of_step,
            "weights and KV read once",
            "name",
        )
    ],
    "transport": [Plot("Between two processes of a host", "rows", "block_bytes", _size, "GB/s", _by_name, "memcpy")],
    "storage": [Plot("From storage into slots", "rows", "block_bytes", _size, "GB/s by size of a block", _by_name)],
}


def pictures(stem: str, data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(file name, title, SVG) of a result's pictures. Args: stem: of its file, such as ``h2d-h100``."""
    found: list[tuple[str, str, str]] = []
    for plot in PLOTS.get(stem.partition("-")[0], ()):
        rows = [row for row in data.get(plot.rows) or [] if plot.x in row]
        for value in dict.fromkeys(row[plot.per] for row in rows) if plot.per else [""]:
            lines = _lines(plot, [row for row in rows if not plot.per or row[plot.per] == value])
            xs = sorted({x for points in lines.values() for x, _ in points})
            if len(xs) < 2:
                continue
            title = plot.title.format(value)
            svg = lines_svg(title, {x: plot.words(x) for x in xs}, plot.unit, lines, plot.beside)
            found.append((f"{stem}-{len(found) + 1}.svg", title, svg))
    return found


def _lines(plot: Plot, rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, dict[float, float]] = {}
    for row in rows:
        for name, y in plot.lines(row):
            lines.setdefault(name, {}).setdefault(float(row[plot.x]), y)  # a way measured twice is shown once
    return {name: sorted(points.items()) for name, points in lines.items()}
