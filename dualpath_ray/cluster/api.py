"""The Python API: ``start`` a system, ``connect`` to one. CLI and jobs call nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.client import Client
from dualpath_ray.cluster.fingerprint import fingerprint
from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.cluster.system import SCHEDULER_NAME, Attachment, Handles, System, start_system
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster, parse_cluster
from dualpath_ray.engine.profile import EngineProfile

ConfigLike = ClusterConfig | str | Path | dict[str, Any]


def start(
    config: ConfigLike,
    *,
    address: str | None = None,
    max_context_tokens: int | None = None,
    keep_store: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> System:
    """Start a system; stop it with ``system.stop()`` or as a context manager.

    Args:   config: a path, a mapping with the keys of a configuration file, or a ClusterConfig; address: of a running Ray
        cluster, None for a private local one; max_context_tokens: the longest context you will use, when you know it.
    Raises: ConfigError in one sentence that names the file and the key.
    """
    parsed, source = _parse(config)
    return start_system(make_plan(parsed, source, max_context_tokens), address, keep_store, progress)


def connect(system: System | str, *, config: ConfigLike | None = None, address: str | None = None) -> Client:
    """A client of a system, by object or by name (``system.name``).

    Args:   config: when given, the system must have been started with the same configuration and code.
    Raises: ConfigError when there is no such system, or its fingerprint is another.
    """
    if isinstance(system, System):
        return Client(system)
    if not ray.is_initialized():
        RaySession().open(address or "auto", 0)
    try:
        scheduler = ray.get_actor(SCHEDULER_NAME, namespace=system)
    except ValueError as error:
        running = [
            a["namespace"] for a in ray.util.list_named_actors(all_namespaces=True) if a["name"] == SCHEDULER_NAME
        ]
        there = f"running: {', '.join(running)}" if running else "none is running there"
        raise ConfigError(f"system: there is no system {system!r} on this Ray cluster; {there}") from error
    attachment: Attachment = ray.get(scheduler.facts.remote())
    if config is not None:
        wanted = fingerprint(_parse(config)[0])
        if wanted != attachment.fingerprint:
            raise ConfigError(
                f"system: {system} runs with fingerprint {attachment.fingerprint} of code and configuration, but yours "
                f"have {wanted}"
            )
    handles = Handles()
    handles.scheduler, handles.storage = scheduler, attachment.storage
    handles.traffic, handles.prefill, handles.decode = attachment.traffic, attachment.prefill, attachment.decode
    return Client(System(attachment.plan, system, handles, EngineProfile(0.0, 0.0, 1.0, 1.0)))


def _parse(config: ConfigLike) -> tuple[ClusterConfig, str]:
    if isinstance(config, ClusterConfig):
        return config, "config"
    if isinstance(config, dict):
        return parse_cluster(config, "config"), "config"
    return load_cluster(Path(config)), str(config)
