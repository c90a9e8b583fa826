"""Spans of the data path for OpenTelemetry, where Ray was started with a tracing hook."""

import logging
import time
from typing import Any

from dualpath_ray.base.span_log import Span

_LOG = logging.getLogger(__name__)


def tracing_here() -> bool:
    """Whether Ray was started with a tracing hook."""
    from ray.util.tracing.tracing_helper import _is_tracing_enabled  # no public call tells this

    return bool(_is_tracing_enabled())


class OtelSpans:
    """A sink that gives each span to the tracer that the hook has set up."""

    def __init__(self) -> None:
        from opentelemetry import trace  # comes with ray[default]

        self._tracer = trace.get_tracer("dualpath_ray")
        self._works = True

    def add(self, span: Span) -> None:
        """As of ``SpanSink``: the hook's processors run here, so a batching one is the right one."""
        if not self._works:
            return
        try:
            self._hand_over(span)
        except Exception as error:  # nothing of it may reach the data path
            self._works = False
            _LOG.warning("no spans go to OpenTelemetry any more: %r", error)

    def _hand_over(self, span: Span) -> None:
        offset_s = time.time() - time.monotonic()
        about: dict[str, Any] = {"place": span.place, "requests": list(span.request_ids), "bytes": span.nbytes}
        about |= {"note": span.note} | ({"layer": span.layer} if span.layer is not None else {})
        begun = self._tracer.start_span(span.name, start_time=_ns(span.start_s + offset_s), attributes=about)
        begun.end(_ns(span.stop_s + offset_s))

    def close(self) -> None:
        """The hook's tracer ends with the process."""


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
