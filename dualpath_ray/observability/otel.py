"""Spans of the data path for OpenTelemetry, where Ray was started with a tracing hook."""

import time
from collections.abc import Callable
from typing import Any

from dualpath_ray.base.span_log import Span


def otel_sink() -> Callable[[Span], None] | None:
    """What takes spans to OpenTelemetry; None where Ray was started without a tracing hook."""
    from ray.util.tracing.tracing_helper import _is_tracing_enabled  # no public call tells this

    if not _is_tracing_enabled():
        return None
    from opentelemetry import trace  # comes with ray[default]

    tracer = trace.get_tracer("dualpath_ray")

    def take(span: Span) -> None:
        offset_s = time.time() - time.monotonic()
        about: dict[str, Any] = {"place": span.place, "requests": list(span.request_ids), "bytes": span.nbytes}
        about |= {"note": span.note} | ({"layer": span.layer} if span.layer is not None else {})
        begun = tracer.start_span(span.name, start_time=_ns(span.start_s + offset_s), attributes=about)
        begun.end(_ns(span.stop_s + offset_s))

    return take


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
