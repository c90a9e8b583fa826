"""``dualpath doctor``: all checks of this machine, and of a configuration on it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_choice import AUTO
from dualpath_ray.base.nic_devices import HostDevices, address_towards, read_devices
from dualpath_ray.base.types import Role
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster
from dualpath_ray.ops.doctor.check import Check, Level
from dualpath_ray.ops.doctor.host import io_uring_check, shared_memory_check, shared_memory_check_of, store_check
from dualpath_ray.ops.doctor.nics import gpu_checks, nic_checks, role_checks
from dualpath_ray.ops.doctor.software import gpu_software_checks, ray_check, transport_checks

_FAR_AWAY = "8.8.8.8"  # nothing is sent: Ray looks for a node's address on the route to it too


def examine(config_file: Path | None, address: str | None) -> list[Check]:
    """Every check, in the order in which they are read.

    Args:   address: of a Ray cluster.
    Raises: ConfigError when the file is no configuration.
    """
    config = load_cluster(config_file) if config_file else None
    host = read_devices()
    return [
        *_device_checks(host, config),
        *_config_checks(config, str(config_file)),
        io_uring_check(),
        *transport_checks(config.transport if config else "auto"),
        *gpu_software_checks(len(host.gpus), config is not None and config.engine.device == "cuda"),
        ray_check(address),
    ]


def _device_checks(host: HostDevices, config: ClusterConfig | None) -> list[Check]:
    address = address_towards(_FAR_AWAY) or "127.0.0.1"
    if config is None:
        found, roles = role_checks(host, address, AUTO, [AUTO], max(1, len(host.gpus)), bool(host.gpus), "auto")
    else:
        node, on_gpus = config.node, config.engine.device == "cuda"
        found, roles = role_checks(host, address, node.snic, node.cnic, node.gpus, on_gpus, config.transport)
    return [*gpu_checks(host), *nic_checks(host, roles), *found]


def _config_checks(config: ClusterConfig | None, source: str) -> list[Check]:
    """Shared memory, and the store where it is named."""
    if config is None:
        return [shared_memory_check()]
    checks = [_buffers_check(config, source)]
    path = config.storage.path
    if path is not None and "://" not in path:
        checks.append(store_check(Path(path).expanduser().resolve()))
    return checks


def _buffers_check(config: ClusterConfig, source: str) -> Check:
    from dualpath_ray.cluster.plan import make_plan  # loads torch and Ray
    from dualpath_ray.engine.pull import is_on_hub

    try:
        if is_on_hub(config.model):
            return shared_memory_check()  # a model that is not here yet: a run fetches it, this command does not
        plan = make_plan(config, source)
    except ConfigError as error:
        return Check("configuration", str(error), Level.ERROR)
    return shared_memory_check_of(max(map(plan.buffer_bytes, Role)), plan.shared_memory_bytes())


def as_json(checks: list[Check]) -> list[dict[str, Any]]:
    """One object a check."""
    return [asdict(check) for check in checks]
