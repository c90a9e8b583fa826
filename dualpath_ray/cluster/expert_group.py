"""Engines of a role that exchange model-execution traffic: who they are, and how they meet over their compute NICs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dualpath_ray.base.types import Role, TrafficClass
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.fabric import FabricConfig
from dualpath_ray.engine.expert_round import GroupPlace

Wait = Callable[[list[Any], str], list[Any]]
"""Results of calls to actors. Args: references; who is asked, for errors."""


def exchanges(config: ClusterConfig, role: Role) -> bool:
    """Whether the engines of a role exchange what others replay."""
    return config.exchanges_collectives and len(_members(config, role)) > 1


def all_to_all_bytes(config: ClusterConfig, role: Role) -> int:
    """Of a token in a layer. 0 where there is nobody to exchange with, and no emulated NIC to replay on."""
    return (config.engine.all_to_all_bytes or 0) if exchanges(config, role) or config.node.cnic_bps else 0


def join_group(
    config: ClusterConfig, role: Role, traffic: Mapping[str, Any], engines: Sequence[Any], wait: Wait
) -> None:
    """Args: traffic: traffic managers by node; engines: started, node after node. Raises: as of ``wait``."""
    members = _members(config, role)
    cnics = wait([traffic[node].cnic_at.remote(index) for node, index in members], "a traffic manager")
    host = cnics[0].address
    (port,) = wait([engines[0].open_group.remote(host)], "an engine")
    nodes = tuple(node for node, _ in members)
    tos = config.fabric.tos.get(TrafficClass.MODEL_EXECUTION, 0)
    places = [
        GroupPlace(rank, nodes, host, port, cnic.interface, tos, nccl_environment(config.fabric, cnic.rdma))
        for rank, cnic in enumerate(cnics)
    ]
    wait([engine.join_group.remote(place) for engine, place in zip(engines, places, strict=True)], "an engine")


def nccl_environment(fabric: FabricConfig, rdma: str | None) -> dict[str, str]:
    """What keeps NCCL on the compute NIC, and in the lane of model execution where the network is known.

    Args: rdma: device and port of the compute NIC.
    """
    mark = fabric.mark(TrafficClass.MODEL_EXECUTION)
    lane = {mark.variable: mark.value} if fabric.kind else {}
    return {**lane, "NCCL_IB_HCA": f"={rdma}"} if rdma else lane


def _members(config: ClusterConfig, role: Role) -> list[tuple[str, int]]:
    """(node, index) of each engine."""
    nodes = config.prefill_names if role is Role.PREFILL else config.decode_names
    return [(node, index) for node in nodes for index in range(config.node.gpus)]
