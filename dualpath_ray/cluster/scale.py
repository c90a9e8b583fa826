"""Nodes that join and leave a running system. Nothing that is under way is lost: who leaves hands off first."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, DualPathError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.asking import ask, wait_for
from dualpath_ray.cluster.handles import Handles
from dualpath_ray.cluster.membership import change
from dualpath_ray.cluster.node import Nodes
from dualpath_ray.cluster.plan import naming
from dualpath_ray.cluster.system import System
from dualpath_ray.config.load import parse_cluster

_LOOK_S = 0.2
_TELL_S = 5.0
Progress = Callable[[str], None]


def scale(system: System, num_prefill: int, num_decode: int, progress: Progress = lambda line: None) -> None:
    """Let so many nodes of each role be there. Those that leave go first: who joins may need their place.

    Raises: ConfigError naming the key when that cannot be, or no Ray node has room in time; the nodes that were there before
        and did not have to leave go on.
    """
    with naming(system.plan.source):
        _check(system, num_prefill, num_decode)
        before = system.plan
        data = {**before.config.model_dump(), "prefill_nodes": num_prefill, "decode_nodes": num_decode}
        system.plan = replace(before, config=parse_cluster(data, before.source))
        try:
            restore(system, progress)
        except BaseException:
            system.plan = before  # or the keeper would try for ever
            publish(system)
            raise


def restore(system: System, progress: Progress = lambda line: None) -> None:
    """From the nodes that are there to those that the configuration asks for. Raises: as ``scale``."""
    config, handles = system.plan.config, system.handles
    drained = drained_nodes(system)
    wanted = {Role.PREFILL: config.prefill_nodes, Role.DECODE: config.decode_nodes}
    todo = change({role: handles.nodes_of(role) for role in Role}, wanted, drained)
    for node in todo.leave:  # all at once get no more work, or one would hand it to the next
        ask(handles.scheduler.drain.remote(node), "the scheduler")
    try:
        for node in todo.leave:
            remove_node(system, node, progress)
    except BaseException:
        for node in set(todo.leave) & set(system.handles.traffic) - drained:  # who has not left works on
            with suppress(DualPathError):
                ask(handles.scheduler.undrain.remote(node), "the scheduler")
        raise
    if todo.join:
        add_nodes(system, todo.join, progress)
    publish(system)


def drained_nodes(system: System) -> set[str]:
    """Those that get no new work."""
    groups = ask(system.handles.scheduler.status.remote(), "the scheduler")["groups"]
    return {node for node, group in groups.items() if group["drained"]}


def _check(system: System, num_prefill: int, num_decode: int) -> None:
    """Raises: ConfigError for what cannot be scaled while it runs."""
    config = system.plan.config
    if num_prefill < 1 or num_decode < 1:
        raise ConfigError("--prefill and --decode: a system needs at least one node of each role")
    if num_prefill + num_decode > system.most_nodes:
        raise ConfigError(
            f"--prefill and --decode: {num_prefill + num_decode} nodes are more than the {system.most_nodes} that this system's "
            "scheduler was started for; start it with more"
        )
    if config.exchanges_collectives:
        raise ConfigError(
            "engine.all_to_all: engines that exchange their collectives are one group, which cannot be scaled"
        )
    if config.transport == "collective":
        raise ConfigError("transport: collective is one group of all nodes, which cannot be scaled; use auto")


def add_nodes(system: System, joining: Sequence[tuple[str, Role]], progress: Progress) -> None:
    """Start nodes, and let them work. Raises: as ``scale``; nothing of them is left behind then."""
    before, names = system.handles, [node for node, _ in joining]
    handles = before.copy()
    nodes = system.nodes_with(handles)
    timeout = system.plan.config.startup_timeout_s
    shards = wait_for([s.shard.remote() for s in handles.storage], "a storage node", timeout)
    try:
        progress(f"{', '.join(names)}: {_asking(system, len(names))}")
        nodes.start(joining, shards)
        nodes.connect(names)
        progress(f"{', '.join(names)}: loading the model")
        nodes.warm_up(names)
        for node in names:  # an earlier one of this name may have been heard of after it left
            ask(handles.scheduler.remove_group.remote(node), "the scheduler")
            ask(handles.scheduler.drain.remote(node), "the scheduler")  # nothing is bound to it until all have started
        engines = [engine for node in names for engine in handles.engines_of(node).values()]
        wait_for([e.start.remote(handles.scheduler, None) for e in engines], "an engine", timeout)
        system.handles = handles
        publish(system)
        for node in names:
            ask(handles.scheduler.undrain.remote(node), "the scheduler")
    except BaseException:
        system.handles = before
        _undo(system, handles, nodes, names)
        raise
    progress(f"{', '.join(names)}: joined")


def _asking(system: System, num_nodes: int) -> str:
    """That Ray is asked for a place; and, where it has none now, what is missing: an autoscaler may add it, or nobody."""
    plan, free = system.plan, ray.available_resources()
    num_engines = num_nodes * plan.config.node.gpus
    lacking = [
        f"{num_engines * each:g} {kind}s are needed and {free.get(kind, 0.0):g} free"
        for kind, each in (("CPU", plan.cpus_per_engine), ("GPU", plan.gpus_per_engine))
        if num_engines * each > free.get(kind, 0.0) + 1e-6
    ]
    if not lacking:
        return "asking Ray for a place"
    return f"asking Ray for a place ({' and '.join(lacking)}): waits up to {plan.config.startup_timeout_s:g} s for more"


def _undo(system: System, handles: Handles, nodes: Nodes, joining: Sequence[str]) -> None:
    """Whatever fails on the way."""
    with suppress(DualPathError):
        publish(system)
    for node in joining:
        with suppress(DualPathError):
            _leave_peers(handles, [node], joining)
        with suppress(DualPathError):
            ask(handles.scheduler.remove_group.remote(node), "the scheduler")
    nodes.end(joining)


def remove_node(system: System, node: str, progress: Progress) -> None:
    """Let a node hand off what it has, and end it. Raises: SystemDiedError when an actor of it is gone."""
    handles = system.handles
    ask(handles.scheduler.drain.remote(node), "the scheduler")
    progress(f"{node}: drains")
    _until(lambda: is_idle(handles, node), lambda: progress(f"{node}: still hands off"))
    engines = list(handles.engines_of(node).values())
    _until(
        lambda: not any(_ask_all(engines, "num_events")),
        lambda: progress(f"{node}: clients have not heard all of it yet"),
    )
    system.handles = handles.copy()
    system.handles.forget(node)
    publish(system)  # clients ask its engines no more
    _leave_peers(handles, [node])
    system.nodes_with(handles.copy()).end([node])
    ask(handles.scheduler.remove_group.remote(node), "the scheduler")
    ask(handles.scheduler.drain.remote(node), "the scheduler")  # should a last report of it come late
    progress(f"{node}: left")


def is_idle(handles: Handles, node: str) -> bool:
    """Nothing is bound to it, no slot of its buffer is leased but those that are lost, nothing is on its way to storage."""
    if not ask(handles.scheduler.is_idle.remote(node), "the scheduler"):
        return False
    traffic = handles.traffic[node]
    status, leases = ask([traffic.status.remote(), traffic.leases.remote()], f"traffic manager {node}")
    return not status["open_requests"] and not status["writing_blocks"] and len(leases) <= status["lost_slots"]


def _leave_peers(handles: Handles, nodes: Sequence[str], but: Sequence[str] = ()) -> None:
    """Let others forget nodes. Args: but: who leaves, too."""
    for node in nodes:
        if node in handles.traffic:
            others = [t for other, t in handles.traffic.items() if other not in (*nodes, *but)]
            ask([t.disconnect.remote(node) for t in others], "a traffic manager")


def publish(system: System) -> None:
    """Tell the scheduler, and so everyone, which nodes there are."""
    system.version += 1
    ask(system.handles.scheduler.set_facts.remote(system.attachment()), "the scheduler")


def _ask_all(actors: Sequence[Any], method: str) -> list[Any]:
    answers: list[Any] = ask([getattr(actor, method).remote() for actor in actors], "an engine")
    return answers


def _until(done: Callable[[], bool], tell: Callable[[], None]) -> None:
    told_s = time.monotonic()
    while not done():
        if time.monotonic() - told_s > _TELL_S:
            told_s = time.monotonic()
            tell()
        time.sleep(_LOOK_S)
