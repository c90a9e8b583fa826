"""What was done for which request and when, the last of it: for ``dualpath trace``."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

_MOST = 20_000  # spans that are kept; one is about 200 bytes


class Span(NamedTuple):
    """Something that took a while. Times are of one clock; ``place`` is a NIC's direction or an engine."""

    name: str  # kv_read, kv_in, kv_out, prefill_layer or decode_step
    start_s: float
    stop_s: float
    request_ids: tuple[str, ...]  # that it was done for, together
    place: str
    layer: int | None = None
    nbytes: int = 0
    note: str = ""


class SpanSink(Protocol):
    """Takes spans elsewhere. Neither call raises."""

    def add(self, span: Span) -> None:
        """Times are of the monotonic clock."""

    def close(self) -> None:
        """No more spans come."""


class SpanLog:
    """Of one process. Spans come from one thread, and may be asked for by another."""

    def __init__(self, most: int = _MOST) -> None:
        self._spans: deque[Span] = deque(maxlen=most)
        self.sinks: tuple[SpanSink, ...] = ()  # get every span, too

    def add(self, span: Span) -> None:
        """Times are of the monotonic clock."""
        self._spans.append(span)
        for sink in self.sinks:
            sink.add(span)

    def close(self) -> None:
        """Let the sinks end."""
        for sink in self.sinks:
            sink.close()

    def of(self, request_id: str) -> list[dict[str, Any]]:
        """Spans of a request as plain types, with times of the wall clock, in the order in which they ended."""
        offset_s = time.time() - time.monotonic()
        found: Iterable[Span] = (span for span in list(self._spans) if request_id in span.request_ids)
        return [
            {**span._asdict(), "start_s": span.start_s + offset_s, "stop_s": span.stop_s + offset_s} for span in found
        ]
