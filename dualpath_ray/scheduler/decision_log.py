"""Decisions as records of plain JSON types, and their replay off line (``dualpath explain``). Pure functions."""

from dataclasses import asdict
from typing import Any

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.inter_engine import (
    balance_threshold,
    choose_decode_engine,
    choose_decode_group,
    choose_prefill_engine,
)
from dualpath_ray.scheduler.read_side import ReadPathPolicy, ReadSideInputs, load_policy
from dualpath_ray.scheduler.records import (
    decode_loads_from_json,
    node_from_json,
    prefill_loads_from_json,
    request_from_json,
)
from dualpath_ray.scheduler.state import Decision, FetchLimits


def to_record(decision: Decision) -> dict[str, Any]:
    """A decision as JSON can hold it; the record is the caller's own, to any depth."""
    return {**asdict(decision), "read_path": decision.read_path.value}


def from_record(record: dict[str, Any]) -> Decision:
    """The decision of a record, which may have been through JSON."""
    return Decision(**{**record, "read_path": ReadPath(record["read_path"])})


def replay(record: dict[str, Any], policy: ReadPathPolicy | None = None) -> Decision:
    """Decide again from the logged inputs.

    Args:    policy: of the read side, instead of the one that was in force: what would it have chosen?
    Returns: the same decision as logged, when ``policy`` is None.
    Raises:  ConfigError when the policy that was in force cannot be loaded; ValueError when the inputs allow none.
    """
    inputs = record["inputs"]
    request = request_from_json(inputs["request"])
    limits = FetchLimits(**inputs["limits"])
    decode_loads = decode_loads_from_json(inputs["decode"])
    threshold = balance_threshold(inputs["fitting_tokens"], decode_loads, limits)
    decode_engine = choose_decode_engine(request, decode_loads, threshold)
    prefill_loads = [(load, group) for group in inputs["prefill"] for load in prefill_loads_from_json(group)]
    group_of = {load.engine_id: group for load, group in prefill_loads}
    read_queues = {engine_id: group["node"]["read_queue_tokens"] for engine_id, group in group_of.items()}
    prefill_engine = choose_prefill_engine([load for load, _ in prefill_loads], read_queues, limits)
    if decode_engine is None or prefill_engine is None:
        raise ValueError(f"decision {record['seq']}: its inputs leave no engine to choose")
    prefill_group = group_of[prefill_engine.engine_id]
    decode, prefill = node_from_json(inputs["decode"]), node_from_json(prefill_group)
    path, reason = (policy or load_policy(inputs["policy"]))(ReadSideInputs(request, prefill, decode, inputs["turn"]))
    return Decision(
        seq=record["seq"],
        request_id=request.request_id,
        attempt=request.attempt,
        decode_group=choose_decode_group(inputs["groups"]),
        decode_engine=decode_engine.engine_id,
        decode_node=decode.node_id,
        prefill_group=prefill_group["group_id"],
        prefill_engine=prefill_engine.engine_id,
        prefill_node=prefill.node_id,
        read_path=path,
        reason=reason,
        inputs=inputs,
    )
