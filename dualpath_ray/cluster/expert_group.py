"""Engines of a role that exchange model-execution traffic: who they are, and where they meet, over their compute NICs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dualpath_ray.base.types import Role, TrafficClass
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.fabric import FabricConfig
from dualpath_ray.engine.expert_round import GroupPlace
from dualpath_ray.engine.group import engine_id
from dualpath_ray.traffic.actor import CnicAt

Wait = Callable[[list[Any], str], list[Any]]
"""Results of calls to actors. Args: references; who is asked, for errors."""


def exchanges(config: ClusterConfig, role: Role) -> bool:
    """Whether the engines of a role exchange what others replay."""
    return config.exchanges_collectives and len(_members(config, role)) > 1


def all_to_all_bytes(config: ClusterConfig, role: Role) -> int:
    """Of a token in a layer. 0 where there is nobody to exchange with, and no emulated NIC to replay on."""
    return (config.engine.all_to_all_bytes or 0) if exchanges(config, role) or config.node.cnic_bps else 0


def group_places(
    config: ClusterConfig, role: Role, traffic: Mapping[str, Any], engines: Sequence[Any], wait: Wait
) -> Sequence[GroupPlace | None]:
    """Of each engine of a role; None of one that exchanges nothing. The first one opens the place where they meet.

    Args:   traffic: traffic managers by node; engines: node after node.
    Raises: as of ``wait``.
    """
    if not exchanges(config, role):
        return [None] * len(engines)
    members = _members(config, role)
    cnics = wait([traffic[node].cnic_at.remote(index) for node, index in members], "a traffic manager")
    host = cnics[0].address
    (port,) = wait([engines[0].open_group.remote(host)], "an engine")
    nodes = tuple(node for node, _ in members)
    tos = config.fabric.tos.get(TrafficClass.MODEL_EXECUTION, 0)
    return [
        GroupPlace(f"engine {engine_id(*member)}", rank, nodes, host, port, tos, environment(config.fabric, cnic))
        for rank, (member, cnic) in enumerate(zip(members, cnics, strict=True))
    ]


def environment(fabric: FabricConfig, cnic: CnicAt) -> dict[str, str]:
    """What keeps gloo and NCCL on the compute NIC, and NCCL in the lane of model execution where the network is known."""
    variables: dict[str, str] = {}
    if cnic.interface is not None:
        variables |= {"GLOO_SOCKET_IFNAME": cnic.interface, "NCCL_SOCKET_IFNAME": f"={cnic.interface}"}
    if cnic.rdma is not None:
        variables["NCCL_IB_HCA"] = f"={cnic.rdma}"
    if fabric.kind is not None:
        mark = fabric.mark(TrafficClass.MODEL_EXECUTION)
        variables[mark.variable] = mark.value
    return variables


def _members(config: ClusterConfig, role: Role) -> list[tuple[str, int]]:
    """(node, index) of each engine."""
    nodes = config.prefill_names if role is Role.PREFILL else config.decode_names
    return [(node, index) for node in nodes for index in range(config.node.gpus)]
