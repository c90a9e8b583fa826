"""Decisions as records of plain JSON types, and their replay off line (``dualpath explain``). Pure functions."""

from dataclasses import asdict
from typing import Any

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.history import LoadHistory, Moment
from dualpath_ray.scheduler.inter_engine import (
    balance_threshold,
    choose_decode_engine,
    choose_decode_group,
    choose_prefill_engine,
)
from dualpath_ray.scheduler.read_side import ReadPathPolicy, ReadSideInputs, load_policy
from dualpath_ray.scheduler.records import request_from_json, request_to_json, view_from_json, view_to_json
from dualpath_ray.scheduler.sharing import SharedOut, SharingHistory
from dualpath_ray.scheduler.state import Decision, DecisionInputs, DecodeLoad, FetchLimits, PrefillLoad

_FIELDS = [name for name in Decision._fields if name not in ("inputs", "read_path")]


def to_record(decision: Decision) -> dict[str, Any]:
    """A decision as JSON can hold it; the record is the caller's own, to any depth."""
    record: dict[str, Any] = {name: getattr(decision, name) for name in _FIELDS}
    record["read_path"] = decision.read_path.value
    record["inputs"] = inputs_to_json(decision.inputs) if decision.inputs is not None else None
    return record


def from_record(record: dict[str, Any]) -> Decision:
    """The decision of a record, which may have been through JSON."""
    inputs = record["inputs"]
    return Decision(
        **{name: record[name] for name in _FIELDS},
        read_path=ReadPath(record["read_path"]),
        inputs=inputs_from_json(inputs) if inputs is not None else None,
    )


def inputs_to_json(inputs: DecisionInputs) -> dict[str, Any]:
    decode, prefill = inputs.loads.views()
    return {
        "request": request_to_json(inputs.request),
        "groups": inputs.shared_out.totals(),
        "fitting_tokens": inputs.fitting_tokens,
        "decode": view_to_json(decode),
        "prefill": [view_to_json(view) for view in prefill],
        "limits": asdict(inputs.limits),
        "policy": inputs.policy,
        "turn": inputs.turn,
    }


def inputs_from_json(record: dict[str, Any]) -> DecisionInputs:
    decode = view_from_json(record["decode"])
    prefill = {view.group_id: view for view in map(view_from_json, record["prefill"])}
    return DecisionInputs(
        request_facts=request_from_json(record["request"]).without_payload(),
        shared_out=SharedOut(SharingHistory(dict(record["groups"])), 0),
        fitting_tokens=record["fitting_tokens"],
        loads=Moment(LoadHistory(prefill, {decode.group_id: decode}), 0, decode.group_id),
        limits=FetchLimits(**record["limits"]),
        policy=record["policy"],
        turn=record["turn"],
    )


def replay(record: dict[str, Any], policy: ReadPathPolicy | None = None) -> Decision:
    """Decide again from the logged inputs.

    Args:    policy: of the read side, instead of the one that was in force: what would it have chosen?
    Returns: the same decision as logged, when ``policy`` is None.
    Raises:  ConfigError when the policy that was in force cannot be loaded; ValueError when the inputs allow none.
    """
    inputs = inputs_from_json(record["inputs"])
    request, limits = inputs.request, inputs.limits
    decode, prefill_views = inputs.loads.views()
    decode_loads = [load for load in decode.engines if isinstance(load, DecodeLoad)]
    unfinished = sum(load.unfinished_tokens for load in decode_loads)
    threshold = balance_threshold(inputs.fitting_tokens, unfinished, len(decode_loads), limits)
    decode_engine = choose_decode_engine(request, decode_loads, threshold)
    prefill_loads = [load for view in prefill_views for load in view.engines if isinstance(load, PrefillLoad)]
    view_of = {load.engine_id: view for view in prefill_views for load in view.engines}
    read_queues = {engine_id: view.node.read_queue_tokens for engine_id, view in view_of.items()}
    prefill_engine = choose_prefill_engine(prefill_loads, read_queues, limits)
    if decode_engine is None or prefill_engine is None:
        raise ValueError(f"decision {record['seq']}: its inputs leave no engine to choose")
    prefill = view_of[prefill_engine.engine_id]
    choose = policy or load_policy(inputs.policy)
    path, reason = choose(ReadSideInputs(request, prefill.node, decode.node, inputs.turn))
    return Decision(
        seq=record["seq"],
        request_id=request.request_id,
        attempt=request.attempt,
        decode_group=choose_decode_group(inputs.shared_out.totals()),
        decode_engine=decode_engine.engine_id,
        decode_node=decode.node.node_id,
        prefill_group=prefill.group_id,
        prefill_engine=prefill_engine.engine_id,
        prefill_node=prefill.node.node_id,
        read_path=path,
        reason=reason,
        inputs=inputs,
    )
