"""Systems that outlive whoever starts them: up, and down again."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, SystemDiedError
from dualpath_ray.cluster.asking import ask, first_line, own_error
from dualpath_ray.cluster.attach import OURS, actors_of, facts_of, running_systems
from dualpath_ray.cluster.keeper import KEEPER_NAME, keeper_actor
from dualpath_ray.cluster.node import stop_actors
from dualpath_ray.cluster.placement import remove_places
from dualpath_ray.cluster.plan import SystemPlan

_LOOK_S = 0.3
_REMOVE_S = 300.0  # for the files of a store
_GONE_S = 10.0
Progress = Callable[[str], None]


def start_detached(
    plan: SystemPlan,
    name: str,
    keep_store: bool = False,
    empty_store: bool = False,
    progress: Progress = lambda _: None,
) -> None:
    """Start a system that runs until ``remove``, on the Ray cluster that this process is in.

    Raises: ConfigError for what the user can fix, or when the name is taken; nothing is left behind then.
    """
    if name in running_systems() or any(map(OURS.fullmatch, actors_of(name))):
        raise ConfigError(
            f"--name: {name} is the name of a system on this Ray cluster, or of what is left of one; use another, or "
            f"`dualpath down --name {name}` first"
        )
    keeper = keeper_actor(name)
    try:
        kept(keeper, "start", plan, keep_store, empty_store, progress=progress)
    except BaseException:
        ray.kill(keeper)  # what it had started it has removed itself, or was in the middle of it:
        remove(name)
        raise


def keeper_of(name: str) -> Any:
    """Raises: ConfigError when the system has none: it ends with the program that started it."""
    try:
        return ray.get_actor(KEEPER_NAME, namespace=name)
    except ValueError as error:
        raise ConfigError(
            f"system: {name} was not started by `dualpath up`: it cannot be changed from outside"
        ) from error


def kept(keeper: Any, method: str, *args: Any, progress: Progress) -> Any:
    """Let a keeper do something that takes its time, and hear what it says meanwhile.

    Raises: what it raised of our own tree; SystemDiedError when it is gone.
    """
    told: int = ask(keeper.num_said.remote(), "the keeper")
    answer = getattr(keeper, method).remote(*args)
    while True:
        done, _ = ray.wait([answer], timeout=_LOOK_S)
        with suppress(SystemDiedError):  # the answer itself says so
            for line in ask(keeper.said.remote(told), "the keeper"):
                progress(line)
                told += 1
        if done:
            break
    try:
        return ray.get(answer)
    except ray.exceptions.RayError as error:
        what = "is gone" if isinstance(error, ray.exceptions.RayActorError) else "failed"
        raise own_error(error) or SystemDiedError(f"the keeper {what}: {first_line(error)}") from error


def drain_all(name: str, within_s: float, progress: Progress = lambda _: None) -> bool:
    """Let a system finish what it has bound, and bind nothing more. Returns: whether it has in time."""
    scheduler, facts = facts_of(name)
    nodes = list(facts.handles.traffic)
    ask([scheduler.drain.remote(node) for node in nodes], "the scheduler")
    deadline, told_s = time.monotonic() + within_s, time.monotonic()
    try:
        while not all(ask([scheduler.is_idle.remote(node) for node in nodes], "the scheduler")):
            if time.monotonic() > deadline:
                return False
            if time.monotonic() - told_s > 5:
                told_s = time.monotonic()
                progress("waits for requests that are under way")
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:  # somebody thought better of it: it goes on as before
        ask([scheduler.undrain.remote(node) for node in nodes], "the scheduler")
        raise
    return True


def remove(name: str) -> None:
    """Remove all that a detached system made, in whatever state it is: actors, places, segments, a store that was not to stay.

    Nothing of anybody else's is touched, even in the system's namespace.
    """
    keeper = actors_of(name).get(KEEPER_NAME)
    if keeper is not None:  # first: it would put back what goes
        ray.kill(keeper)
        deadline = time.monotonic() + _GONE_S
        while KEEPER_NAME in actors_of(name) and time.monotonic() < deadline:
            time.sleep(0.1)
    actors = {each: actor for each, actor in actors_of(name).items() if OURS.fullmatch(each) and each != KEEPER_NAME}
    groups: dict[str, list[Any]] = {}
    for actor_name, actor in actors.items():
        groups.setdefault(actor_name.partition("/")[0], []).append(actor)
    engines = groups.pop("prefill", []) + groups.pop("decode", [])
    stop_actors(groups.pop("traffic", []), engines)
    removals = [node.remove.remote() for node in groups.get("storage", [])]
    if removals:
        ray.wait(removals, num_returns=len(removals), timeout=_REMOVE_S)
    for others in groups.values():
        for actor in others:
            ray.kill(actor)
    remove_places(name)
