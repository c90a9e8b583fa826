"""``dualpath doctor``: all checks of this machine, and of a configuration on it."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_choice import AUTO, uses_rdma
from dualpath_ray.base.nic_devices import HostDevices, address_towards, read_devices
from dualpath_ray.base.types import Role
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster
from dualpath_ray.ops.doctor.check import Check, Level
from dualpath_ray.ops.doctor.cluster import cluster_checks
from dualpath_ray.ops.doctor.host import io_uring_check, shared_memory_check, shared_memory_check_of, store_check
from dualpath_ray.ops.doctor.limits import locked_memory_check, port_check, rdma_check, token_check
from dualpath_ray.ops.doctor.nics import gpu_checks, nic_checks, role_checks
from dualpath_ray.ops.doctor.software import gpu_software_checks, ray_check, transport_checks

if TYPE_CHECKING:
    from dualpath_ray.cluster.plan import SystemPlan

_FAR_AWAY = "8.8.8.8"  # nothing is sent: Ray looks for a node's address on the route to it too


def examine(config_file: Path | None, address: str | None) -> list[Check]:
    """Every check, in the order in which they are read.

    Args:   address: of a Ray cluster.
    Raises: ConfigError when the file is no configuration.
    """
    config = load_cluster(config_file) if config_file else None
    plan, broken = _plan(config, str(config_file))
    host = read_devices()
    wanted = address or os.environ.get("RAY_ADDRESS")
    ray = ray_check(wanted)
    joins = bool(wanted) and ray.level is Level.OK
    return [
        *_device_checks(host, config),
        *_memory_checks(host, config, plan),
        *broken,
        *_store_checks(config),
        io_uring_check(),
        *transport_checks(config.transport if config else "auto"),
        *gpu_software_checks(len(host.gpus), config is not None and config.engine.device == "cuda"),
        ray,
        token_check(bool(wanted)),
        port_check(not wanted),
        *(cluster_checks(wanted, plan) if wanted and joins else []),
    ]


def _device_checks(host: HostDevices, config: ClusterConfig | None) -> list[Check]:
    address = address_towards(_FAR_AWAY) or "127.0.0.1"
    if config is None:
        found, roles = role_checks(host, address, AUTO, [AUTO], max(1, len(host.gpus)), bool(host.gpus), "auto")
    else:
        node, on_gpus = config.node, config.engine.device == "cuda"
        found, roles = role_checks(host, address, node.snic, node.cnic, node.gpus, on_gpus, config.transport)
    return [*gpu_checks(host), *nic_checks(host, roles), *found]


def _plan(config: ClusterConfig | None, source: str) -> "tuple[SystemPlan | None, list[Check]]":
    """The plan, where it can be made here, and what keeps it from that."""
    if config is None:
        return None, []
    from dualpath_ray.cluster.plan import make_plan  # loads torch and Ray
    from dualpath_ray.engine.pull import is_on_hub

    try:
        if is_on_hub(config.model):
            return None, []  # a model that is not here yet: a run fetches it, this command does not
        return make_plan(config, source), []
    except ConfigError as error:
        return None, [Check("configuration", str(error), Level.ERROR)]


def _memory_checks(host: HostDevices, config: ClusterConfig | None, plan: "SystemPlan | None") -> list[Check]:
    rdma = [str(nic.rdma) for nic in host.nics if nic.rdma_up]
    named = config is not None and uses_rdma(config.transport) and config.node.cnic != [AUTO]
    largest = max(map(plan.buffer_bytes, Role)) if plan is not None else None
    shared = shared_memory_check()
    if plan is not None and largest is not None:
        shared = shared_memory_check_of(largest, plan.shared_memory_bytes())
    over_rdma = bool(rdma) and (config is None or uses_rdma(config.transport) or config.transport == "auto")
    return [shared, locked_memory_check(largest, over_rdma), rdma_check(rdma, named)]


def _store_checks(config: ClusterConfig | None) -> list[Check]:
    """Where the store is named, and is a directory."""
    path = config.storage.path if config is not None else None
    return [store_check(Path(path).expanduser().resolve())] if path is not None and "://" not in path else []


def as_json(checks: list[Check]) -> list[dict[str, Any]]:
    """One object a check."""
    return [asdict(check) for check in checks]
