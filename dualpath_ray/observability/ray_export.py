"""An actor's metrics through Ray, and its state line: one small thread that reads the actor's own ``status``.

Nothing here is ever raised into the actor, and no actor waits for it: what cannot be told is left out.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualpath_ray.observability import state_line
from dualpath_ray.observability.metrics import BY_NAME, Kind, MetricSpec
from dualpath_ray.observability.samples import (
    Increments,
    Labels,
    Reading,
    Sample,
    SampleFunction,
    additions,
    decode_samples,
    node_samples,
    prefill_samples,
    scheduler_samples,
    storage_samples,
)
from dualpath_ray.observability.state_line import LineFunction

_LOG = logging.getLogger(__name__)
# Ray's counters refuse to add nothing, but a counter must be there before it counts, or its first increase is never seen.
_LEAST = 5e-324
_FIRST_S = 1.0  # a system that is up shows its metrics soon
_JOIN_S = 2.0


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What every actor of a system is told. ``state_line_s`` 0: no line."""

    system: str
    metrics: bool = True
    metrics_interval_s: float = 5.0
    state_line_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Source:
    """How one kind of actor's status becomes samples and a line."""

    samples: SampleFunction
    line: LineFunction


NODE = Source(node_samples, state_line.node_line)
SCHEDULER = Source(scheduler_samples, state_line.scheduler_line)
PREFILL = Source(prefill_samples, state_line.prefill_line)
DECODE = Source(decode_samples, state_line.decode_line)
STORAGE = Source(storage_samples, state_line.storage_line)


def nothing_observed() -> Iterable[Sample]:
    """Of an actor without histograms."""
    return ()


def collected_here() -> bool:
    """Whether Ray collects metrics on this node: it is told by its environment, which its workers inherit."""
    told = os.environ.get("RAY_enable_metrics_collection", "1")  # noqa: SIM112  # as Ray spells it
    return told.lower() not in ("0", "false")


class RayMetrics:
    """The catalogue's metrics as Ray's, each made when it is first exported."""

    def __init__(self) -> None:
        self._made: dict[str, Callable[[float, dict[str, str]], None]] = {}

    def export(self, sample: Sample) -> None:
        """Raises: whatever Ray does."""
        record = self._made.get(sample.name)
        if record is None:
            record = self._made[sample.name] = self._make(BY_NAME[sample.name])
        record(float(sample.value), sample.labels)

    def _make(self, spec: MetricSpec) -> Callable[[float, dict[str, str]], None]:
        from ray.util import metrics

        if spec.kind is Kind.GAUGE:
            gauge = metrics.Gauge(spec.name, spec.meaning, spec.labels)
            return lambda value, labels: gauge.set(value, labels)
        if spec.kind is Kind.HISTOGRAM:
            histogram = metrics.Histogram(spec.name, spec.meaning, list(spec.boundaries), spec.labels)
            return lambda value, labels: histogram.observe(value, labels)
        counter = metrics.Counter(spec.name, spec.meaning, spec.labels)
        return lambda value, labels: counter.inc(max(value, _LEAST), labels)


class Exporter:
    """Ends with its process, or by ``stop``.

    Args: who: the actor, at the beginning of its line; read: its status, which may fail while it starts or ends; observed:
        observations of histograms since the call before.
    """

    def __init__(
        self,
        settings: ExportSettings,
        source: Source,
        labels: Mapping[str, str],
        who: Callable[[], str],
        read: Callable[[], Mapping[str, Any]],
        observed: Callable[[], Iterable[Sample]] = nothing_observed,
        metrics: RayMetrics | None = None,
    ) -> None:
        self._settings, self._source, self._who = settings, source, who
        self._labels: Labels = {"system": settings.system, **labels}
        self._read, self._observed = read, observed
        self._metrics = metrics or RayMetrics()
        self._increments = Increments()
        self._exported: Reading | None = None
        self._printed: Reading | None = None
        self._told: set[str] = set()
        self._over = threading.Event()
        self._exports = settings.metrics and collected_here()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        if self._exports or settings.state_line_s:
            self._thread.start()

    def stop(self, last: bool = False) -> None:
        """End the thread. Args: last: export once more, for a process that ends now."""
        self._over.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
        if last and self._exports:
            self._try("metrics", self._export)

    def _run(self) -> None:
        settings = self._settings
        now = time.monotonic()
        export_s = now + min(_FIRST_S, settings.metrics_interval_s) if self._exports else float("inf")
        line_s = now + settings.state_line_s if settings.state_line_s else float("inf")
        while not self._over.wait(max(0.0, min(export_s, line_s) - time.monotonic())):
            now = time.monotonic()
            if now >= export_s:
                self._try("metrics", self._export)
                export_s = now + settings.metrics_interval_s
            if now >= line_s:
                self._try("state line", self._print)
                line_s = now + settings.state_line_s

    def _try(self, what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # an actor that starts or ends has no status, and Ray may be gone
            if what not in self._told:
                self._told.add(what)
                _LOG.info("%s: no %s now: %r", type(self).__name__, what, error)

    def _export(self) -> None:
        for sample in self._observed():
            self._metrics.export(sample)
        now = Reading(time.monotonic(), self._read())
        samples = self._source.samples(now, self._exported, self._labels)
        for sample in additions(samples, self._increments):
            self._metrics.export(sample)
        self._exported = now

    def _print(self) -> None:
        now = Reading(time.monotonic(), self._read())
        parts: Sequence[str] = self._source.line(now, self._printed)
        print(state_line.line(self._who(), parts), flush=True)
        self._printed = now
