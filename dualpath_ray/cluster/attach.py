"""Finding the systems that run on a Ray cluster, and using one of them by its name."""

import re
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.fingerprint import code_fingerprint
from dualpath_ray.cluster.handles import SCHEDULER_NAME, Attachment
from dualpath_ray.cluster.system import System
from dualpath_ray.engine.profile import EngineProfile


def running_systems() -> list[str]:
    """Names of the systems on this cluster."""
    return sorted(a["namespace"] for a in _actors() if a["name"] == SCHEDULER_NAME)


def actors_of(system: str) -> dict[str, Any]:
    """Every actor of a system that still has its name, by that name: whatever became of the system."""
    found = {}
    for actor in _actors():
        if actor["namespace"] == system:
            try:
                found[actor["name"]] = ray.get_actor(actor["name"], namespace=system)
            except ValueError:  # it has ended meanwhile
                continue
    return found


OURS = re.compile(r"(keeper|scheduler|ui|(traffic|prefill|decode|storage)/.+)")  # names of a system's actors


def removable_systems() -> list[str]:
    """Those of ``dualpath up``, and what is left of others whose scheduler is gone."""
    names: dict[str, set[str]] = {}
    for actor in _actors():
        if OURS.fullmatch(actor["name"]):
            names.setdefault(actor["namespace"], set()).add(actor["name"])
    return sorted(name for name, its in names.items() if "keeper" in its or SCHEDULER_NAME not in its)


def _actors() -> list[dict[str, str]]:
    found: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return found


def the_system(name: str | None) -> str:
    """The one that is meant: the only one, where none is named.

    Raises: ConfigError when there is none, or several.
    """
    running = running_systems()
    if name is not None and name not in running:
        raise ConfigError(f"system: there is no system {name!r} on this Ray cluster; {_known(running)}")
    if name is None and len(running) != 1:
        raise ConfigError(f"system: name one with --name; {_known(running)}")
    return name or running[0]


def _known(running: list[str]) -> str:
    return f"running: {', '.join(running)}" if running else "none is running there"


def facts_of(name: str) -> tuple[Any, Attachment]:
    """Scheduler of a running system, and what it keeps. Raises: ConfigError when there is no such system; SystemDiedError."""
    the_system(name)
    scheduler = ray.get_actor(SCHEDULER_NAME, namespace=name)
    return scheduler, ask(scheduler.facts.remote(), f"the scheduler of {name}")


def attach(name: str) -> System:
    """A system that another process started. Stopping it here leaves it running.

    Raises: ConfigError when there is no such system, or it runs other code than this process; SystemDiedError.
    """
    scheduler, facts = facts_of(name)
    if facts.code != (here := code_fingerprint()):
        raise ConfigError(f"system: {name} runs with fingerprint {facts.code} of code, but yours has {here}")
    handles = facts.handles.copy()
    handles.scheduler = scheduler
    system = System(facts.plan, name, handles, EngineProfile(**facts.profile), facts.detached)
    system.store_root, system.store_stays, system.version = facts.store_root, facts.store_stays, facts.version
    system.most_nodes, system.shm_name = facts.most_nodes, facts.shm_name
    return system
