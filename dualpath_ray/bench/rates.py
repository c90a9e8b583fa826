"""Rates beside a limit, from rounds in which each way is measured once: a busy moment then meets all of them alike."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of a way: what it moved, how long it took, and how much CPU time all that took part used."""

    nbytes: int
    seconds: float
    cpu_s: float

    @property
    def bytes_per_s(self) -> float:
        return self.nbytes / self.seconds


@dataclass(frozen=True, slots=True)
class RateRow:
    """A way of moving bytes beside its limit. ``ratio_to_limit`` is the median over rounds."""

    name: str
    block_bytes: int
    bytes_per_s: float
    limit_name: str
    limit_bytes_per_s: float
    ratio_to_limit: float
    cpu_s_per_gb: float
    latency_s: float | None  # of one block, alone
    ratio_at_least: float | None = None  # what it should reach


Ways = Mapping[str, Callable[[], Sample]]


def timed(nbytes: int, work: Callable[[], Any], cpu_s: Callable[[], float] = time.process_time) -> Sample:
    """Args: cpu_s: CPU seconds so far, of this process unless others work too."""
    cpu, began = cpu_s(), time.perf_counter()
    work()
    return Sample(nbytes, time.perf_counter() - began, cpu_s() - cpu)


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process so far, to the nanosecond: its clock as clock_getcpuclockid(3) makes it."""
    return time.clock_gettime((~pid << 3) | 2)


def in_rounds(ways: Ways, rounds: int) -> dict[str, list[Sample]]:
    """Measure every way once a round. Returns: samples by name, [rounds].

    The order is drawn for every two rounds, and the second of them runs backwards: what one way leaves behind, as in a
    cache or a device's queue, is nobody's for good, and of two ways each goes first about as often as the other.
    """
    names = list(ways)
    found: dict[str, list[Sample]] = {name: [] for name in names}
    draw = random.Random(0)
    for number in range(rounds):
        if number % 2:
            names.reverse()
        else:
            draw.shuffle(names)
        for name in names:
            found[name].append(ways[name]())
    return found


def rate_row(
    name: str,
    block_bytes: int,
    samples: Sequence[Sample],
    limit_name: str,
    limits: Sequence[Sample],
    latency_s: float | None = None,
    at_least: float | None = None,
) -> RateRow:
    """Medians over rounds of a way and of its limit."""
    return RateRow(
        name,
        block_bytes,
        statistics.median(s.bytes_per_s for s in samples),
        limit_name,
        statistics.median(s.bytes_per_s for s in limits),
        statistics.median(s.bytes_per_s / limit.bytes_per_s for s, limit in zip(samples, limits, strict=True)),
        statistics.median(s.cpu_s / s.nbytes * 1e9 for s in samples),
        latency_s,
        at_least,
    )


def median_s(work: Callable[[], Any], times: int) -> float:
    """Median seconds of one call, alone."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def table(rows: Sequence[RateRow]) -> list[str]:
    """Markdown."""
    lines = [
        "| way | block | GB/s | limit | GB/s | ratio | at least | CPU s/GB | latency of a block |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.name,
            f"{row.block_bytes / 1024:,.0f} KiB",
            f"{row.bytes_per_s / 1e9:.2f}",
            row.limit_name,
            f"{row.limit_bytes_per_s / 1e9:.2f}",
            f"{row.ratio_to_limit:.2f}",
            "" if row.ratio_at_least is None else f"{row.ratio_at_least:.2f}",
            f"{row.cpu_s_per_gb:.2f}",
            "" if row.latency_s is None else f"{row.latency_s * 1e3:.2f} ms",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def result(rows: Sequence[RateRow], skipped: Sequence[str]) -> dict[str, Any]:
    """What goes into the JSON file. Args: skipped: what could not be measured here, and why."""
    return {"rows": [asdict(row) for row in rows], "skipped": list(skipped)}


def optional(skipped: list[str], name: str, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or None, with the reason in ``skipped``, when something it needs is not here."""
    try:
        return make()
    except Exception as error:  # libraries that are not there fail in ways of their own
        skipped.append(f"{name}: {' '.join(str(error).split())[:300] or type(error).__name__}")
        return None
