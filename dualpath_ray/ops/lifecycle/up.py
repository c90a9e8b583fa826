"""``dualpath up`` and ``dualpath down``: a system that outlives the command, and its removal."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from dualpath_ray.base.errors import ConfigError, SystemDiedError
from dualpath_ray.cluster.attach import facts_of, removable_systems, running_systems
from dualpath_ray.cluster.detached import drain_all, remove, start_detached
from dualpath_ray.cluster.fingerprint import code_fingerprint
from dualpath_ray.cluster.local_ray import LocalRay, end_local_ray, local_ray, start_local_ray
from dualpath_ray.cluster.placement import RaySession, answers, machines_ray
from dualpath_ray.cluster.plan import SystemPlan, check_machine, make_plan
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster
from dualpath_ray.engine.device import num_cuda_devices
from dualpath_ray.ops.lifecycle.connection import cluster_address, joined
from dualpath_ray.ops.lifecycle.differences import differences

Echo = Callable[[str], None]
OnceUp = Callable[[str, ClusterConfig], None]


def up(
    config_path: Path,
    name: str | None,
    address: str | None,
    keep_store: bool,
    echo: Echo,
    once_up: OnceUp = lambda name, config: None,
) -> None:
    """Start the system of a file, unless it runs already.

    Args:   once_up: called within the Ray cluster with the system's name and configuration, when it is up.
    Raises: ConfigError in one sentence; it says what differs when another system has the name.
    """
    plan = make_plan(load_cluster(config_path, {"name": name}), str(config_path))
    name = plan.config.name
    started, at = _cluster(plan, address, echo)
    session = RaySession()
    try:
        session.open(at, 0)
        if name in running_systems():
            _compare(name, plan)
            echo(f"{name} is up already, with this configuration")
            once_up(name, plan.config)
            return
        began = time.monotonic()
        start_detached(plan, name, keep_store, progress=echo)
        nodes = f"{plan.config.prefill_nodes}P{plan.config.decode_nodes}D"
        echo(
            f"{name} is up: {nodes}, {plan.config.model}, in {time.monotonic() - began:.1f} s; `dualpath status` shows it"
        )
        if session.dashboard:
            echo(f"Ray dashboard: http://{session.dashboard}")
        once_up(name, plan.config)
    except BaseException:
        if started is not None:
            session.close()
            end_local_ray(started)
        raise
    finally:
        session.close()


def _cluster(plan: SystemPlan, address: str | None, echo: Echo) -> tuple[LocalRay | None, str]:
    """(the Ray that was started for this, where to join): the named cluster, or one of this machine, which there may be already."""
    at = cluster_address(address)
    if at is not None:
        return None, at
    here = machines_ray()
    if here is not None and answers(here):  # it is the one that is meant, even if it does not let us in
        return None, "auto"
    check_machine(plan)
    echo("starting Ray on this machine, until `dualpath down`")
    gpus = num_cuda_devices() if plan.gpus_per_engine else 0
    cpus = max(len(os.sched_getaffinity(0)), int(-(-plan.num_engines * plan.cpus_per_engine // 1)))
    started = start_local_ray(cpus, gpus)
    return started, started.address


def _to_remove(name: str | None) -> str:
    """The system that is meant. Raises: ConfigError when there is none, or several, or a program of its own ends it."""
    candidates = removable_systems()
    if name is not None and name not in candidates and name in running_systems():
        raise ConfigError(f"--name: {name} was not started by `dualpath up`: it ends with the program that started it")
    known = f"there are {', '.join(candidates)}" if candidates else "`dualpath up` has started none there"
    if name is not None and name not in candidates:
        raise ConfigError(f"--name: there is no system {name!r} on this Ray cluster; {known}")
    if name is None and len(candidates) != 1:
        raise ConfigError(f"system: name one with --name; {known}")
    return name or candidates[0]


def _compare(name: str, plan: SystemPlan) -> None:
    """Raises: ConfigError when the running system is another one."""
    _, facts = facts_of(name)
    found = differences(facts.plan.config, plan.config)
    if found:
        raise ConfigError(
            f"{plan.source}: {name} is up with another configuration, and was left as it is: {'; '.join(found)}; "
            "`dualpath down` it first, or use another --name"
        )
    if facts.code != (here := code_fingerprint()):
        raise ConfigError(
            f"system: {name} is up with fingerprint {facts.code} of code, and was left as it is, but yours has {here}; "
            "`dualpath down` it first, or use another --name"
        )


def down(name: str | None, address: str | None, within_s: float, echo: Echo) -> None:
    """Let a system finish what is under way, and remove it. A Ray that ``up`` started goes with its last system.

    Raises: ConfigError when there is no such system.
    """
    own = local_ray()
    with joined(address):
        if name is None and own is not None and not removable_systems():
            left = running_systems()
        else:
            name = _to_remove(name)
            try:
                if name in running_systems() and not drain_all(name, within_s, echo):
                    echo(f"{name}: requests were still under way after {within_s:g} s, and end with it")
            except SystemDiedError as error:  # what is broken is removed all the same
                echo(f"{name}: {error}")
            remove(name)
            left = [*running_systems(), *removable_systems()]
            echo(f"{name} is down")
    if own is not None and not left and cluster_address(address) == own.address:
        end_local_ray(own)
        echo("the Ray that `dualpath up` started has ended")
