"""Utilisation of every storage NIC over time: a row a node, a band a run, one time axis for all."""

from dataclasses import dataclass

import numpy as np

from dualpath_ray.base.units import format_bytes
from dualpath_ray.observability.chart import LABEL_WIDTH, VALUE_WIDTH, WIDTH, Chart, box, rule, text, tick_label, ticks
from dualpath_ray.observability.format import percent, seconds
from dualpath_ray.observability.markup import Markup, join, tag
from dualpath_ray.observability.mode_words import mode_note
from dualpath_ray.observability.run_record import Comparison, RunRecord
from dualpath_ray.observability.timeline import bin_edges_s, by_nic, moved_bytes

_NUM_BINS = 150
_MOST_NODES = 16  # beyond, a row is the mean of a role's nodes
_ROW, _GAP, _HEADER, _BAND_GAP, _AXIS = 34.0, 7.0, 26.0, 18.0, 26.0


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    role: str  # prefill or decode: its colour
    bytes_per_s: np.ndarray  # [bins]
    mean_bytes_per_s: float
    rate_bytes_per_s: float | None


def snic_chart(comparison: Comparison) -> Chart | None:
    """Storage reads of the runs that are charged for them; None when there are none.

    A row is full at the NIC's rate. Where NICs are not emulated it is full at the highest rate seen, and labelled so.
    """
    runs = [r for r in comparison.runs if not r.oracle and r.jct_s > 0 and any(r.snic_read_bytes.values())]
    longest = max((run.jct_s for run in runs), default=0.0)
    if not runs:
        return None
    bands = [(run, _rows(run, longest / _NUM_BINS)) for run in runs]
    full = max((float(row.bytes_per_s.max()) for _, rows in bands for row in rows), default=0.0)
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    scale = room / longest
    height = sum(_HEADER + len(rows) * (_ROW + _GAP) + _BAND_GAP for _, rows in bands) - _BAND_GAP + _AXIS
    marks = [LABEL_WIDTH + t * scale for t in ticks(longest)]
    parts = [rule(x, _HEADER - 4, x, height - _AXIS, "grid") for x in marks]
    parts.append(text(WIDTH, 13, "mean of job", "soft small end"))
    y = 0.0
    for run, rows in bands:
        parts += [
            text(0, y + 13, run.mode, "strong"),
            text(LABEL_WIDTH, y + 13, f"{mode_note(run)}, done after {seconds(run.jct_s)}", "soft small halo"),
        ]
        y += _HEADER
        for row in rows:
            parts.append(_row(row, y, run, scale, full, longest / _NUM_BINS))
            y += _ROW + _GAP
        x = LABEL_WIDTH + run.jct_s * scale
        top = y - len(rows) * (_ROW + _GAP)
        parts.append(rule(x, top - 4, x, y - _GAP, "finish"))
        y += _BAND_GAP
    parts += [
        text(x, height - 8, f"{tick_label(t)} s", "soft small middle")
        for x, t in zip(marks, ticks(longest), strict=True)
    ]
    return Chart(join(*parts), height, _label(bands))


def _rows(run: RunRecord, bin_s: float) -> list[_Row]:
    edges = _edges_s(run, bin_s)
    widths = np.diff(edges)
    samples = by_nic(run.samples)
    groups = [("prefill", run.prefill_names), ("decode", run.decode_names)]
    rows = []
    for role, nodes in groups:
        read = {n: moved_bytes(samples.get(f"{n}/snic/in", []), edges) / widths for n in nodes}
        rates = {n: run.nic_rates_bytes_per_s.get(f"{n}/snic/in") for n in nodes}
        if len(run.prefill_names) + len(run.decode_names) <= _MOST_NODES:
            shown = [(n, read[n], rates[n]) for n in nodes]
        else:
            shown = [(f"{len(nodes)} {role} nodes", np.mean([read[n] for n in nodes], axis=0), rates[nodes[0]])]
        rows += [_Row(name, role, x, float(np.average(x, weights=widths)), rate) for name, x, rate in shown]
    return rows


def _edges_s(run: RunRecord, bin_s: float) -> np.ndarray:
    """Edges of the bins, the last one cut where the run ends."""
    edges = bin_edges_s(run.started_s, run.ended_s, bin_s)
    edges[-1] = run.ended_s
    return edges


def _row(row: _Row, y: float, run: RunRecord, scale: float, full: float, bin_s: float) -> Markup:
    top = row.rate_bytes_per_s or full or 1.0
    share = np.clip(row.bytes_per_s / top, 0, 1)
    width = run.jct_s * scale
    path = f"M{LABEL_WIDTH:.1f} {y + _ROW:.1f}"
    for stop_s, value in zip(_edges_s(run, bin_s)[1:], share, strict=True):
        path += f"V{y + _ROW * (1 - value):.1f}H{LABEL_WIDTH + (stop_s - run.started_s) * scale:.1f}"
    path += f"V{y + _ROW:.1f}Z"
    mean = row.mean_bytes_per_s
    value = percent(mean / top) if row.rate_bytes_per_s else _rate(mean)
    where = "" if row.rate_bytes_per_s else f" (full height {_rate(full)})"
    says = f"{run.mode}, {row.name}: storage NIC read at {value} on average{where}"
    return join(
        text(0, y + 15, row.name, "strong" if len(row.name) < 8 else "strong small"),
        text(0, y + 29, f"{row.role} node" if len(row.name) < 8 else "mean", "soft small"),
        box(LABEL_WIDTH, y, width, _ROW, "track"),
        tag("path", tag("title", says), d=path, class_=row.role),
        text(WIDTH, y + 22, value, "end"),
    )


def _rate(bytes_per_s: float) -> str:
    return f"{format_bytes(bytes_per_s)}/s"


def _label(bands: list[tuple[RunRecord, list[_Row]]]) -> str:
    told = []
    for run, rows in bands:
        means = []
        for row in rows:
            mean, rate = row.mean_bytes_per_s, row.rate_bytes_per_s
            means.append(f"{row.name} {percent(mean / rate) if rate else _rate(mean)}")
        told.append(f"{run.mode}: {', '.join(means)}")
    return "Storage NIC reads, mean over the job. " + "; ".join(told)
