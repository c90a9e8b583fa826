"""What a Ray cluster has: nodes, labels, resources. Nothing is started there."""

from dataclasses import dataclass, field

import ray

from dualpath_ray.cluster.placement import ROLE_LABEL, RaySession


@dataclass(frozen=True, slots=True)
class RayNode:
    """One node of a cluster."""

    address: str
    role: str | None  # of its label
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as it is now."""

    nodes: tuple[RayNode, ...] = field(default_factory=tuple)


def survey(address: str) -> Cluster:
    """Join, look, and leave. Raises: ConfigError when nobody answers there, or not to this version of Ray, or token."""
    session = RaySession()
    session.open(address, 0)
    try:
        return Cluster(
            tuple(
                RayNode(
                    str(node["NodeManagerAddress"]),
                    node["Labels"].get(ROLE_LABEL),
                    float(node["Resources"].get("CPU", 0.0)),
                    float(node["Resources"].get("GPU", 0.0)),
                )
                for node in ray.nodes()
                if node["Alive"]
            )
        )
    finally:
        session.close()
