"""What a client observes of its requests: the histograms of TTFT, TTST, TPOT and JCT."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dualpath_ray.observability.metrics import FINISH_REASONS
from dualpath_ray.observability.ray_export import Exporter, ExportSettings, RayMetrics, Source
from dualpath_ray.observability.samples import Labels, Reading, Sample

_MOST_WAITING = 10_000  # observations between two exports
_MOST_TRAJECTORIES = 100_000  # of those that nobody ends only the last are known


class ClientMetrics:
    """Thread-safe, never waits, and raises nothing. ``close`` tells what is left.

    A trajectory's JCT is from its first submit to its last token so far, observed when the client ends it.
    """

    def __init__(self, settings: ExportSettings, metrics: RayMetrics | None = None) -> None:
        """Args: metrics: in the place of Ray's."""
        self._labels = {"system": settings.system}
        self._observed: deque[Sample] = deque(maxlen=_MOST_WAITING)
        self._finished: Counter[str] = Counter()
        self._spans: OrderedDict[str, tuple[float, float]] = OrderedDict()  # trajectory -> (first submit, last token)
        self._lock = threading.Lock()
        without_line = ExportSettings(settings.system, settings.metrics, settings.metrics_interval_s, 0.0)
        source = Source(_samples, lambda now, before: ())
        who = "client"
        self._exporter = Exporter(without_line, source, {}, lambda: who, self._status, self._take, metrics)

    def submitted(self, trajectory_id: str, submit_s: float) -> None:
        """Seconds of the wall clock."""
        with self._lock:
            self._spans.setdefault(trajectory_id, (submit_s, submit_s))
            if len(self._spans) > _MOST_TRAJECTORIES:
                self._spans.popitem(last=False)

    def ended(self, trajectory_id: str, submit_s: float, token_times_s: Sequence[float], reason: str) -> None:
        """A request has ended. Args: token_times_s: of its first sample, in any order; reason: of ``FINISH_REASONS``."""
        times = sorted(token_times_s)
        if times:
            self._observe("dualpath_ttft_seconds", times[0] - submit_s)
        if len(times) > 1:
            self._observe("dualpath_ttst_seconds", times[1] - times[0])
            self._observe("dualpath_tpot_seconds", (times[-1] - times[0]) / (len(times) - 1))
        with self._lock:
            self._finished[reason if reason in FINISH_REASONS else "failed"] += 1
            if times and (span := self._spans.get(trajectory_id)) is not None:
                self._spans[trajectory_id] = span[0], max(span[1], times[-1])

    def trajectory_ended(self, trajectory_id: str) -> None:
        with self._lock:
            first_s, last_s = self._spans.pop(trajectory_id, (0.0, 0.0))
        if last_s > first_s:
            self._observe("dualpath_jct_seconds", last_s - first_s)

    def close(self) -> None:
        """Export what is left."""
        self._exporter.stop(last=True)

    def _observe(self, name: str, seconds: float) -> None:
        self._observed.append(Sample(name, max(0.0, seconds), self._labels))

    def _take(self) -> Iterable[Sample]:
        out: list[Sample] = []
        while self._observed:
            out.append(self._observed.popleft())
        return out

    def _status(self) -> Mapping[str, Any]:
        with self._lock:
            return {"finished": dict(self._finished)}


def _samples(now: Reading, before: Reading | None, labels: Labels) -> Iterator[Sample]:
    for reason in FINISH_REASONS:
        count = now.status["finished"].get(reason, 0)
        yield Sample("dualpath_finished_requests_total", count, {**labels, "reason": reason})
