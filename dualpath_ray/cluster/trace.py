"""What was done for one request, collected from every actor of a running system."""

from dataclasses import dataclass
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.asking import ask_each
from dualpath_ray.cluster.attach import facts_of
from dualpath_ray.cluster.decisions import decisions_of
from dualpath_ray.cluster.handles import Handles

_STAGES = "stages"  # told by the decode engine, beside its spans
_LATEST = 5000  # decisions among which a request is looked for


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """A request's decision, the facts of its stages (None: it has not ended, or that is long ago) and its spans.

    ``silent``: why actors that may have done some of it did not tell.
    """

    decision: dict[str, Any]
    facts: dict[str, Any] | None
    spans: list[dict[str, Any]]  # fields of ``Span``; times of the wall clock, in order of their start
    block_tokens: int
    silent: tuple[str, ...] = ()


def collect(name: str, request_id: str) -> RequestTrace:
    """Args: request_id: or the start of it, when only one request that is still known starts so.

    Raises: ConfigError when there is none, or more than one; SystemDiedError when the scheduler is gone.
    """
    scheduler, facts = facts_of(name)
    records = {record["request_id"]: record for record in decisions_of(scheduler, 0, _LATEST)}
    found = [request_id] if request_id in records else [known for known in records if known.startswith(request_id)]
    if len(found) != 1:
        last = ", ".join(list(records)[-3:]) or "none"
        what = f"{len(found)} requests start so" if found else f"{name} knows of none; the last ones are {last}"
        raise ConfigError(f"request {request_id}: {what}")
    record, handles = records[found[0]], facts.handles
    actors = Handles(traffic=handles.traffic, prefill=handles.prefill, decode=handles.decode).named()
    asked = {who: actor.request_spans.remote(found[0]) for who, actor in actors.items()}
    engine = handles.decode.get(record["decode_engine"])
    if engine is not None:
        asked[_STAGES] = engine.request_facts.remote(found[0])
    told, silent = ask_each(asked)
    stages = told.pop(_STAGES, None)
    silent.pop(_STAGES, None)  # its engine has not told of spans either
    spans = sorted((span for some in told.values() for span in some), key=lambda span: span["start_s"])
    left = [name for name in (record["prefill_engine"], record["decode_engine"]) if name not in handles.engines]
    missing = (*silent.values(), *(f"{name} has left the system" for name in left))
    return RequestTrace(record, stages, spans, facts.plan.config.block_tokens, missing)
