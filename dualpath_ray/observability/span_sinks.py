"""Where an actor's spans go beside its own log."""

from dualpath_ray.base.span_log import SpanSink
from dualpath_ray.observability.otel import OtelSpans, tracing_here
from dualpath_ray.observability.ray_timeline import RayTimeline, profiling_here


def span_sinks(who: str) -> tuple[SpanSink, ...]:
    """As Ray was started: with a tracing hook, with its profiling on, or with neither. Args: who: the actor."""
    sinks: list[SpanSink] = []
    if tracing_here():
        sinks.append(OtelSpans())
    if profiling_here():
        sinks.append(RayTimeline(who))
    return tuple(sinks)
