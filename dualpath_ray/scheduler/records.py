"""Loads and requests in plain JSON types and back: what a decision's inputs are made of."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from dualpath_ray.scheduler.state import DecodeLoad, EngineLoad, NicLoad, NodeLoad, PrefillLoad, Request


def request_to_json(request: Request) -> dict[str, object]:
    """Everything but the payload."""
    return {
        "request_id": request.request_id,
        "attempt": request.attempt,
        "trajectory_id": request.trajectory_id,
        "prompt_tokens": request.prompt_tokens,
        "hit_tokens": request.hit_tokens,
        "max_new_tokens": request.max_new_tokens,
        "num_samples": request.num_samples,
    }


def request_from_json(record: dict[str, Any]) -> Request:
    return Request(**record)


def group_to_json(group_id: str, node: NodeLoad, loads: Iterable[EngineLoad]) -> dict[str, object]:
    """A group's node and engines."""
    nics = [asdict(nic) for nic in node.nics]
    return {"group_id": group_id, "node": {**asdict(node), "nics": nics}, "engines": [asdict(load) for load in loads]}


def node_from_json(record: dict[str, Any]) -> NodeLoad:
    node = record["node"]
    return NodeLoad(**{**node, "nics": tuple(NicLoad(**nic) for nic in node["nics"])})


def prefill_loads_from_json(record: dict[str, Any]) -> list[PrefillLoad]:
    return [PrefillLoad(**load) for load in record["engines"]]


def decode_loads_from_json(record: dict[str, Any]) -> list[DecodeLoad]:
    return [DecodeLoad(**load) for load in record["engines"]]
