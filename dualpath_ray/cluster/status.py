"""What a running system does now: asked of every actor, whatever became of the others."""

from dataclasses import dataclass
from typing import Any

import ray

from dualpath_ray.base.errors import DualPathError
from dualpath_ray.cluster.asking import ask, ask_each
from dualpath_ray.cluster.attach import facts_of
from dualpath_ray.cluster.handles import Attachment


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers at one moment; who gave none is in ``silent``, with why."""

    facts: Attachment
    scheduler: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    engines: dict[str, dict[str, Any]]
    storage: list[dict[str, Any]]
    hosts: dict[str, str]  # by logical node: the Ray node's address
    silent: dict[str, str]


def take_sample(name: str) -> Sample:
    """Raises: ConfigError when there is no such system; SystemDiedError when its scheduler is gone."""
    scheduler, facts = facts_of(name)
    handles = facts.handles.copy()
    handles.scheduler = scheduler
    told, silent = ask_each({who: handle.status.remote() for who, handle in handles.named().items()})
    places = {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in ray.nodes()}
    at = _ask_some(
        {node: t.ray_node.remote() for node, t in handles.traffic.items() if f"traffic manager {node}" in told}
    )
    return Sample(
        facts,
        told.get("scheduler", {}),
        {node: told[who] for node in handles.traffic if (who := f"traffic manager {node}") in told},
        {
            engine: {**told[who], "role": role}
            for role, engines in (("prefill", handles.prefill), ("decode", handles.decode))
            for engine in engines
            if (who := f"{role} engine {engine}") in told
        },
        [told[who] for i in range(len(handles.storage)) if (who := f"storage node {i}") in told],
        {node: places.get(ray_node, "") for node, ray_node in at.items()},
        silent,
    )


def _ask_some(asked: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for who, ref in asked.items():
        try:
            found[who] = ask(ref, who)
        except DualPathError:  # it has ended since
            continue
    return found
