"""A logical node of a running system: its actors started and wired, and taken away again."""

from collections.abc import Sequence
from typing import Any

import ray

from dualpath_ray.base.types import Role
from dualpath_ray.cluster.asking import wait_for
from dualpath_ray.cluster.handles import Handles
from dualpath_ray.cluster.placement import Placement
from dualpath_ray.cluster.plan import SystemPlan
from dualpath_ray.engine.actor import DecodeEngineActor, PrefillEngineActor
from dualpath_ray.engine.group import engine_id
from dualpath_ray.traffic.actor import traffic_manager_actor, traffic_name

_STOP_S = 10.0


class Nodes:
    """Starts nodes of one system and connects them with those that are there."""

    def __init__(
        self, plan: SystemPlan, names: tuple[str, str], handles: Handles, placement: Placement, store: tuple[str, str]
    ) -> None:
        """Args: names: of the system, and of its segments and sockets; store: its root, and the adapter that reads it."""
        self._plan, self._handles = plan, handles
        self._system, self._shm_name = names
        self._placement, self._store = placement, store
        self._timeout_s = plan.config.startup_timeout_s

    def start(self, nodes: Sequence[tuple[str, Role]], shards: Sequence[Any]) -> None:
        """Place nodes, all at once for an autoscaler to see, and start their actors. Args: shards: of the storage nodes.

        Raises: ConfigError when no Ray node has room for one in time.
        """
        plan = self._plan
        for node, role in nodes:
            self._placement.ask(node, role, plan.config.node.gpus, plan.cpus_per_engine, plan.gpus_per_engine)
        for node, role in nodes:
            self._start(node, role, self._placement.wait(node, self._timeout_s), shards)

    def _start(self, node: str, role: Role, place: Any, shards: Sequence[Any]) -> None:
        plan, handles, config = self._plan, self._handles, self._plan.config
        root, store = self._store
        common = {"namespace": self._system, "scheduling_strategy": place, **self._placement.lifetime}
        handles.traffic[node] = (
            traffic_manager_actor(config.transport)
            .options(name=traffic_name(node), num_cpus=0, num_gpus=plan.gpus_per_traffic_manager, **common)
            .remote(plan.node_spec((self._system, self._shm_name), node, role, root, store), handles.storage, shards)
        )
        kind = PrefillEngineActor if role is Role.PREFILL else DecodeEngineActor
        for index in range(config.node.gpus):
            handles.of_role(role)[engine_id(node, index)] = kind.options(
                name=f"{role}/{engine_id(node, index)}",
                num_cpus=plan.cpus_per_engine,
                num_gpus=plan.gpus_per_engine - (0.0 if index else plan.gpus_per_traffic_manager),
                **common,
            ).remote(plan.engine_spec((self._system, self._shm_name), node, role, index))

    def connect(self, new: Sequence[str]) -> None:
        """Let nodes and all of the other role reach one another. Raises: TransportError, LayoutError naming both nodes."""
        traffic = self._handles.traffic
        involved = {node: sorted(self._peers(node)) for node in new}
        for node in new:
            for peer in self._peers(node):
                if peer not in new:
                    involved.setdefault(peer, []).append(node)
        described = wait_for([traffic[n].describe.remote() for n in involved], "a traffic manager", self._timeout_s)
        places = dict(zip(involved, described, strict=True))
        wait_for(
            [traffic[node].connect.remote({p: places[p] for p in peers}) for node, peers in involved.items()],
            "a traffic manager",
            self._timeout_s,
        )

    def warm_up(self, nodes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Load models and take or check profiles. Returns: the profile of each engine."""
        engines = {name: engine for node in nodes for name, engine in self._handles.engines_of(node).items()}
        profiles = wait_for([e.warm_up.remote() for e in engines.values()], "an engine", self._timeout_s)
        return dict(zip(engines, profiles, strict=True))

    def _peers(self, node: str) -> list[str]:
        other = Role.DECODE if self._handles.role_of(node) is Role.PREFILL else Role.PREFILL
        return self._handles.nodes_of(other)

    def end(self, nodes: Sequence[str]) -> None:
        """End the processes of nodes that nobody uses any more, and give their places back."""
        handles = self._handles
        leaving = [(node, handles.traffic.get(node), handles.engines_of(node)) for node in nodes]
        for node, _, _ in leaving:
            handles.forget(node)
        stop_actors([t for _, t, _ in leaving if t is not None], [e for *_, es in leaving for e in es.values()])
        for node in nodes:
            self._placement.release(node)


def stop_actors(traffic: Sequence[Any], engines: Sequence[Any], others: Sequence[Any] = ()) -> None:
    """Let traffic managers unlink their segments, then end every process."""
    try:
        for engine in engines:
            engine.stop.remote()  # not waited for: it leaves nothing behind, and one that hangs or loads would not answer
        stops = [manager.stop.remote() for manager in traffic]
        ray.wait(stops, num_returns=len(stops), timeout=_STOP_S)
    finally:  # whoever is in a hurry (a second Ctrl-C) leaves nothing behind either
        for handle in (*traffic, *engines, *others):
            ray.kill(handle)
