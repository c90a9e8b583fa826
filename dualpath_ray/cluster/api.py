"""The Python API: ``start`` a system, ``connect`` to one. Command line and jobs go through it too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.attach import attach
from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.fingerprint import fingerprint
from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.cluster.plan import SystemPlan, make_plan
from dualpath_ray.cluster.system import System, start_system
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster, parse_cluster

ConfigLike = ClusterConfig | SystemPlan | str | Path | dict[str, Any]


def start(
    config: ConfigLike,
    *,
    address: str | None = None,
    max_context_tokens: int | None = None,
    keep_store: bool = False,
    empty_store: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> System:
    """Start a system; stop it with ``system.stop()`` or as a context manager.

    Args:   config: a path, a mapping with the keys of a configuration file, a ClusterConfig, or a SystemPlan made of one.
        address: of a running Ray cluster; None for a private local one, or the one that this process is in already.
        max_context_tokens: the longest context you will use, when you know it and the plan does not.
        keep_store: leave the store's files behind. empty_store: delete what a configured store holds from before.
    Raises: ConfigError in one sentence that names the file and the key.
    """
    if isinstance(config, SystemPlan):
        plan = config
    else:
        plan = make_plan(*_parse(config), max_context_tokens)
    return start_system(plan, address, keep_store, progress, empty_store)


def connect(system: System | str, *, config: ConfigLike | None = None, address: str | None = None) -> Client:
    """A client of a system, by object or by name (``system.name``).

    Args:   config: when given, the system must have been started with the same configuration.
    Raises: ConfigError when there is no such system, or one of other code or configuration: its fingerprint is another.
    """
    if isinstance(system, System):
        return Client(system)
    if not ray.is_initialized():
        RaySession().open(address or "auto", 0)
    attached = attach(system)
    if config is not None:
        running = attached.plan.config
        given = _parse(config)[0].model_copy(update={"name": running.name})  # which `dualpath up` may have given
        there, here = fingerprint(running), fingerprint(given)
        if there != here:
            raise ConfigError(
                f"system: {system} runs with fingerprint {there} of code and configuration, but yours has {here}"
            )
    return Client(attached)


def _parse(config: ConfigLike) -> tuple[ClusterConfig, str]:
    if isinstance(config, SystemPlan):
        return config.config, config.source
    if isinstance(config, ClusterConfig):
        return config, "config"
    if isinstance(config, dict):
        return parse_cluster(config, "config"), "config"
    return load_cluster(Path(config)), str(config)
