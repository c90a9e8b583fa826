"""The keeper of a detached system: starts it, scales it, and lets what is on a Ray node that goes away hand off first."""

import threading
import time
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, DualPathError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.attach import actors_of, attach, running_systems
from dualpath_ray.cluster.placement import on_head, remove_places
from dualpath_ray.cluster.plan import SystemPlan
from dualpath_ray.cluster.scale import remove_node, restore, scale
from dualpath_ray.cluster.system import System, start_system

KEEPER_NAME = "keeper"
_WATCH_S = 2.0
_RETRY_S = 30.0
_MOST_LINES = 1000


class Keeper:
    """One change at a time; it may die and come back, since what there is to know is kept by the scheduler."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changing = threading.Lock()
        self._lines: list[str] = []  # what was said, oldest first
        self._forgotten = 0  # lines that are too old
        self._system: System | None = attach(name) if name in running_systems() else None
        if self._system is not None:
            end_orphans(self._system)
        self._retry_s = 0.0
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def __repr__(self) -> str:
        """Shown in the Ray dashboard's actor table."""
        return f"Keeper of {self._name}"

    def start(self, plan: SystemPlan, keep_store: bool = False, empty_store: bool = False) -> None:
        """Start the system, detached. Raises: as ``start_system``."""
        with self._changing:
            self._system = start_system(plan, None, keep_store, self._say, empty_store, self._name)

    def scale(self, num_prefill: int, num_decode: int) -> None:
        """Raises: as ``scale.scale``."""
        with self._changing:
            scale(self._running(), num_prefill, num_decode, self._say)

    def said(self, since: int) -> list[str]:
        """What it has said, after the first ``since`` lines."""
        return self._lines[max(0, since - self._forgotten) :]

    def num_said(self) -> int:
        return self._forgotten + len(self._lines)

    def ping(self) -> str:
        """It is alive."""
        return KEEPER_NAME

    def _running(self) -> System:
        if self._system is None:
            raise ConfigError(f"system: {self._name} has not started")
        return self._system

    def _say(self, line: str) -> None:
        print(line, flush=True)  # its log
        self._lines.append(line)
        if len(self._lines) > _MOST_LINES:
            del self._lines[0]
            self._forgotten += 1

    def _watch(self) -> None:
        while True:
            time.sleep(_WATCH_S)
            if self._system is not None and self._changing.acquire(blocking=False):
                try:
                    self._look(self._system)
                except Exception as error:  # of Ray, too: the next look may go better
                    self._say(str(error) if isinstance(error, DualPathError) else f"{type(error).__name__}: {error}")
                    self._retry_s = time.monotonic() + _RETRY_S
                finally:
                    self._changing.release()

    def _look(self, system: System) -> None:
        """Nodes on Ray nodes that go away leave; then as many join as are missing."""
        going = set(_draining_ray_nodes())
        if going:
            traffic = system.handles.traffic
            places = ask([t.ray_node.remote() for t in traffic.values()], "a traffic manager")
            leaving = [node for node, at in zip(list(traffic), places, strict=True) if at in going]
            for node in leaving:  # all at once, or one would hand its work to the next
                self._say(f"{node}: its Ray node goes away")
                ask(system.handles.scheduler.drain.remote(node), "the scheduler")
            for node in leaving:
                remove_node(system, node, self._say)
        config = system.plan.config
        missing = config.prefill_nodes + config.decode_nodes - len(system.handles.traffic)
        if missing and time.monotonic() >= self._retry_s:
            restore(system, self._say)


def end_orphans(system: System) -> None:
    """Actors and places of nodes that an earlier keeper was starting or ending when it died."""
    known, left = set(system.handles.traffic), set()
    for name, actor in actors_of(system.name).items():
        kind, _, rest = name.partition("/")
        node = rest.partition("/")[0]
        if kind in ("traffic", "prefill", "decode") and node not in known:
            left.add(node)
            ray.kill(actor)
    for node in left:
        remove_places(system.name, node)


def _draining_ray_nodes() -> list[str]:
    """Ids of Ray nodes that take no more work and will end."""
    from ray._private.state import state  # no public call tells this

    return list(state.get_draining_nodes())


def keeper_actor(name: str) -> Any:
    """A new keeper of a system. On the head node, which is the last to go away, and restarted whenever it dies."""
    options = {"name": KEEPER_NAME, "namespace": name, "lifetime": "detached", **on_head()}
    return (
        ray.remote(num_cpus=0, max_concurrency=8, max_restarts=-1, max_task_retries=0)(Keeper)
        .options(**options)
        .remote(name)
    )
