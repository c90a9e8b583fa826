"""Latencies of a store's calls between two exports of an actor's metrics. Many threads add, one takes."""

from collections import deque
from collections.abc import Iterable, Mapping

from dualpath_ray.observability.samples import Sample

MOST = 512  # of very many the last ones stand for all


class StoreLatency:
    """Args: labels: system, node and role."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._seconds: dict[str, deque[float]] = {op: deque(maxlen=MOST) for op in ("read", "write")}

    def add(self, operation: str, seconds: float) -> None:
        """Args: operation: read or write."""
        self._seconds[operation].append(seconds)

    def take(self) -> Iterable[Sample]:
        """What has come since the call before."""
        out: list[Sample] = []
        for operation, seconds in self._seconds.items():
            labels = {**self._labels, "operation": operation}
            while seconds:
                out.append(Sample("dualpath_storage_latency_seconds", seconds.popleft(), labels))
        return out
