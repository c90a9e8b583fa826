"""Loads and requests in plain JSON types and back: what a decision's inputs are written as."""

from typing import Any

from dualpath_ray.scheduler.state import DecodeLoad, EngineLoad, GroupView, NicLoad, NodeLoad, PrefillLoad, Request


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
        "prompt_copies": request.prompt_copies,
    }


def request_from_json(record: dict[str, Any]) -> Request:
    return Request(**record)


def view_to_json(view: GroupView) -> dict[str, object]:
    """A group's node and engines."""
    nics = [nic._asdict() for nic in view.node.nics]
    engines = [load._asdict() for load in view.engines]
    return {"group_id": view.group_id, "node": {**view.node._asdict(), "nics": nics}, "engines": engines}


def view_from_json(record: dict[str, Any]) -> GroupView:
    node = NodeLoad(**{**record["node"], "nics": tuple(NicLoad(**nic) for nic in record["node"]["nics"])})
    engines: tuple[EngineLoad, ...] = tuple(
        DecodeLoad(**load) if "free_hbm_tokens" in load else PrefillLoad(**load) for load in record["engines"]
    )
    return GroupView(record["group_id"], node, engines)
