"""Changes of a running system: nodes drained and taken back, settings, scale."""

import time
from collections.abc import Callable
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.attach import facts_of, the_system
from dualpath_ray.cluster.detached import keeper_of, kept
from dualpath_ray.cluster.handles import Handles
from dualpath_ray.cluster.scale import is_idle
from dualpath_ray.scheduler.read_side import load_policy

_LOOK_S = 0.3
_TELL_S = 5.0
Echo = Callable[[str], None]


def drain(name: str | None, node: str, wait: bool, echo: Echo) -> None:
    """Give a node no new work. Args: wait: until it has handed off what it had.

    Raises: ConfigError when there is no such system or node.
    """
    scheduler, handles = _find(name, node)
    role = handles.role_of(node)
    if not [other for other in handles.nodes_of(role) if other != node and other not in _drained(scheduler)]:
        echo(f"{node} is the last {role} node that works: requests wait until one is back")
    ask(scheduler.drain.remote(node), "the scheduler")
    told_s = time.monotonic()
    while wait and not is_idle(handles, node):
        if time.monotonic() - told_s > _TELL_S:
            told_s = time.monotonic()
            echo(f"{node} still hands off")
        time.sleep(_LOOK_S)
    echo(f"{node} is drained; `dualpath scale` takes it away" if wait else f"{node} gets no new work")


def undrain(name: str | None, node: str, echo: Echo) -> None:
    """Give a node work again. Raises: ConfigError when there is no such system or node."""
    scheduler, _ = _find(name, node)
    ask(scheduler.undrain.remote(node), "the scheduler")
    echo(f"{node} takes work again")


def set_value(name: str | None, key: str, value: str, echo: Echo) -> None:
    """Change a setting of a running system, from its next decision on.

    Raises: ConfigError naming the key or the value that there is not.
    """
    if key not in ("read_path", "scheduler.read_path"):
        raise ConfigError(f"{key}: only read_path can be set while a system runs")
    load_policy(value)
    name = the_system(name)
    scheduler, _ = facts_of(name)
    before = ask(scheduler.status.remote(), "the scheduler")["policy"]
    ask(scheduler.set_read_path.remote(value), "the scheduler")
    echo(f"{name}: read_path={value} (before: {before})")


def scale(name: str | None, prefill: int | None, decode: int | None, echo: Echo) -> None:
    """Let so many nodes be there; a role that is not named keeps its own.

    Raises: ConfigError when that cannot be.
    """
    if prefill is None and decode is None:
        raise ConfigError("--prefill and --decode: name at least one of them")
    name = the_system(name)
    _, facts = facts_of(name)
    config = facts.plan.config
    wanted = (
        prefill if prefill is not None else config.prefill_nodes,
        decode if decode is not None else config.decode_nodes,
    )
    try:
        kept(keeper_of(name), "scale", *wanted, progress=echo)
    except KeyboardInterrupt:
        echo("the keeper goes on with it; `dualpath logs keeper` tells how far it is")
        raise
    echo(f"{name}: {wanted[0]}P{wanted[1]}D")


def _find(name: str | None, node: str) -> tuple[Any, Handles]:
    """(scheduler, handles) of the system, which has this node."""
    scheduler, facts = facts_of(the_system(name))
    if node not in facts.handles.traffic:
        raise ConfigError(f"node: there is no {node}; the nodes are {', '.join(facts.handles.traffic)}")
    handles = facts.handles.copy()
    handles.scheduler = scheduler
    return scheduler, handles


def _drained(scheduler: Any) -> set[str]:
    groups = ask(scheduler.status.remote(), "the scheduler")["groups"]
    return {node for node, group in groups.items() if group["drained"]}
