"""A running system: its actors started in order, wired, watched, and removed without a trace."""

import secrets
import shutil
from collections.abc import Callable
from typing import Any

import ray

from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.asking import ask, wait_for
from dualpath_ray.cluster.expert_group import group_places
from dualpath_ray.cluster.fingerprint import code_fingerprint, fingerprint
from dualpath_ray.cluster.handles import SCHEDULER_NAME, Attachment, Handles
from dualpath_ray.cluster.leftovers import kept_dir, sweep_dead, temporary_dir
from dualpath_ray.cluster.node import Nodes, stop_actors
from dualpath_ray.cluster.placement import Placement, RaySession, on_head
from dualpath_ray.cluster.plan import SystemPlan, check_machine, check_store, naming, store_root
from dualpath_ray.engine.profile import EngineProfile
from dualpath_ray.kv.segment import PREFIX, SHM_DIR, sweep
from dualpath_ray.scheduler.actor import ALONE_S, most_groups, scheduler_actor
from dualpath_ray.storage.actor import StorageNodeActor
from dualpath_ray.storage.root import shard_root

_STARTUP_WAITS = 5  # calls that may each take startup_timeout_s, between the scheduler's start and its first fetch
Progress = Callable[[str], None]


class System:
    """A started system. Use as a context manager, or call ``stop``."""

    def __init__(
        self, plan: SystemPlan, name: str, handles: Handles, profile: EngineProfile, detached: bool = False
    ) -> None:
        """Args: detached: it outlives this process."""
        self.plan, self.name, self.handles, self.profile, self.detached = plan, name, handles, profile, detached
        self.store_root, self.store_stays = "", False
        # Of its segments and sockets. A name may be used again when one of the last system's processes was killed.
        self.shm_name = f"{name}-{secrets.token_hex(4)}" if detached else name
        self.most_nodes = most_groups(len(plan.config.node_names))
        self.version = 0  # of its nodes: counts up as these come and go
        self.placement = Placement(name, detached, plan.config.node.role_labels == "required")
        self._cleanup: list[Callable[[], object]] = []

    def __enter__(self) -> "System":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def on_stop(self, action: Callable[[], object]) -> None:
        """Actions run in reverse order when the system stops."""
        self._cleanup.append(action)

    def stop(self) -> None:
        """Remove everything that the start made, whatever fails on the way. May be called twice.

        Raises: the first error, once everything has been tried.
        """
        first: BaseException | None = None
        while self._cleanup:
            try:
                self._cleanup.pop()()
            except BaseException as error:  # a second Ctrl-C too: what is left must still go
                first = first or error
        if first is not None:
            raise first

    def refresh(self) -> bool:
        """Hear of nodes that came or went. Returns: whether any did. Raises: SystemDiedError."""
        facts = ask(self.handles.scheduler.facts.remote(self.version), "the scheduler")
        if facts is None or facts.version <= self.version:
            return False
        handles = facts.handles.copy()
        handles.scheduler = self.handles.scheduler
        self.handles, self.version, self.plan = handles, facts.version, facts.plan
        return True

    def status(self) -> dict[str, Any]:
        """Status of every actor, by kind and name.

        Raises: SystemDiedError naming one that is gone or does not answer.
        """
        while True:
            self.refresh()
            version = self.version
            try:
                return _status(self.handles.copy())
            except SystemDiedError:
                self.refresh()
                if self.version == version:  # else one has left meanwhile
                    raise

    def nodes(self) -> Nodes:
        """What starts and ends its nodes."""
        return self.nodes_with(self.handles)

    def nodes_with(self, handles: Handles) -> Nodes:
        """The same, for handles that are not the system's yet, or not any more."""
        names = self.name, self.shm_name
        return Nodes(self.plan, names, handles, self.placement, (self.store_root, self.store_spec))

    @property
    def store_spec(self) -> str:
        """The adapter that reads its store: that of the oracle is in shared memory."""
        return "local" if self.plan.config.scheduler.oracle else self.plan.config.storage.store

    def attachment(self) -> Attachment:
        """What others need to use it as it is now."""
        handles = self.handles.copy()
        handles.scheduler = None  # who reads this got it from there
        return Attachment(
            self.version,
            self.plan,
            fingerprint(self.plan.config),
            code_fingerprint(),
            self.profile.to_dict(),
            self.store_root,
            self.store_stays,
            self.detached,
            self.most_nodes,
            self.shm_name,
            handles,
        )


def _status(h: Handles) -> dict[str, Any]:
    asked = {who: handle.status.remote() for who, handle in h.named().items()}
    told = iter([ask(ref, who) for who, ref in asked.items()])  # in the order of ``named``
    storage = [next(told) for _ in h.storage]
    nodes = {node: next(told) for node in h.traffic}
    prefill, decode = ([next(told) for _ in engines] for engines in (h.prefill, h.decode))
    return {"nodes": nodes, "prefill": prefill, "decode": decode, "storage": storage, "scheduler": next(told)}


def start_system(
    plan: SystemPlan,
    address: str | None = None,
    keep_store: bool = False,
    progress: Progress = lambda _: None,
    empty_store: bool = False,
    detached_as: str | None = None,
) -> System:
    """Start all actors of a plan.

    Args:   address: of a running Ray cluster; None starts a private one. keep_store: leave the store's files behind.
        empty_store: delete what a configured store holds from before. detached_as: the name of a system that outlives this
        process; it is removed by ``detached.remove``.
    Raises: ConfigError for what the user can fix; nothing is left behind then either.
    """
    name = detached_as or f"{plan.config.name}-{secrets.token_hex(4)}"
    system = System(plan, name, Handles(), EngineProfile(0.0, 0.0, 1.0, 1.0), detached_as is not None)
    try:
        with naming(plan.source):
            _start(system, address, keep_store, progress, empty_store)
    except BaseException:
        system.stop()
        raise
    return system


def _start(system: System, address: str | None, keep_store: bool, progress: Progress, empty_store: bool) -> None:
    plan, config, handles, placement = system.plan, system.plan.config, system.handles, system.placement
    timeout = config.startup_timeout_s
    sweep_dead()
    if address is None and not ray.is_initialized():
        check_machine(plan)
    session = RaySession()
    system.on_stop(session.close)
    cpus = plan.num_engines * plan.cpus_per_engine
    if not ray.is_initialized():
        progress("starting Ray" if address is None else f"joining Ray at {address}")
    session.open(address, cpus, plan.gpus_per_engine > 0)
    if config.node.role_labels != "required":  # else an autoscaler may add what is missing
        placement.check_cpus(cpus)
        placement.check_gpus(plan.num_engines * plan.gpus_per_engine)
    system.on_stop(placement.release_all)
    system.on_stop(lambda: sweep(system.shm_name))
    _make_store(system, keep_store)
    system.on_stop(lambda: _end_actors(handles))

    progress("starting storage nodes, traffic managers and engines")
    handles.storage = [
        StorageNodeActor.options(name=f"storage/{i}", namespace=system.name, **placement.options_for("storage")).remote(
            f"storage{i}",
            system.store_spec,
            shard_root(system.store_root, i, config.storage.num_nodes),
            plan.layout,
            config.storage.capacity_bytes // config.storage.num_nodes,
            config.node.snic,
            system.store_stays,
            plan.export_settings(system.name),
        )
        for i in range(config.storage.num_nodes)
    ]
    wait_for([s.ping.remote() for s in handles.storage], "a storage node", timeout)
    version = config.weights_version
    wait_for([s.set_weights_version.remote(version) for s in handles.storage], "a storage node", timeout)
    if empty_store:
        wait_for([s.clear.remote() for s in handles.storage], "a storage node", timeout)
    shards = wait_for([s.shard.remote() for s in handles.storage], "a storage node", timeout)
    if keep_store and not config.scheduler.oracle:
        progress(f"the store stays in {system.store_root}")
    nodes = system.nodes()
    by_role = ((Role.PREFILL, config.prefill_names), (Role.DECODE, config.decode_names))
    nodes.start([(node, role) for role, names in by_role for node in names], shards)
    kind = scheduler_actor(len(config.node_names))
    where = on_head() if system.detached else {}
    handles.scheduler = kind.options(name=SCHEDULER_NAME, namespace=system.name, lifetime="detached", **where).remote(
        plan.fetch_limits(system.profile),
        config.scheduler.read_path,
        [(node, handles.role_of(node)) for node in handles.traffic],
        system.attachment(),
        first_fetch_within_s=None if system.detached else _STARTUP_WAITS * timeout + ALONE_S,
        observe=plan.export_settings(system.name),
    )
    _wire(system, progress)


def _wire(system: System, progress: Progress) -> None:
    plan, config, handles = system.plan, system.plan.config, system.handles
    timeout = config.startup_timeout_s
    nodes = system.nodes()
    nodes.connect(list(handles.traffic))
    for sentence in _shared_devices(handles, timeout):
        progress(sentence)
    progress("loading the model, warming up" if config.profile else "loading the model, taking a short profile")
    profiles = nodes.warm_up(list(handles.traffic))
    slowest = min((profiles[name] for name in handles.prefill), key=lambda p: p["prompt_tokens_per_s"])
    system.profile = EngineProfile(**slowest)
    links = wait_for([t.snic_bytes_per_s.remote() for t in handles.traffic.values()], "a traffic manager", timeout)
    slowest_link = min(links) if all(links) else None
    limits = plan.fetch_limits(system.profile, slowest_link)
    wait_for([handles.scheduler.set_limits.remote(limits)], "the scheduler", timeout)
    group_of = [
        place
        for role in (Role.PREFILL, Role.DECODE)
        for place in group_places(
            config,
            role,
            handles.traffic,
            list(handles.of_role(role).values()),
            lambda refs, who: wait_for(refs, who, timeout),
        )
    ]
    engines = [*handles.prefill.values(), *handles.decode.values()]
    starts = [e.start.remote(handles.scheduler, place) for e, place in zip(engines, group_of, strict=True)]
    wait_for(starts, "an engine", timeout)
    wait_for([handles.scheduler.set_facts.remote(system.attachment())], "the scheduler", timeout)


def _shared_devices(handles: Handles, timeout_s: float) -> list[str]:
    """A sentence for each device that is storage and compute NIC of a node at once, naming its nodes."""
    told = wait_for([t.devices.remote() for t in handles.traffic.values()], "a traffic manager", timeout_s)
    nodes: dict[str, list[str]] = {}
    for node, devices in zip(handles.traffic, told, strict=True):
        if "both" in devices:
            nodes.setdefault(devices["both"], []).append(node)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in nodes.items()]


def _make_store(system: System, keep_store: bool) -> None:
    """The store's directory: the configured one, or a temporary one; in memory, and never kept, for the oracle."""
    config = system.plan.config
    if config.scheduler.oracle:
        root = str(SHM_DIR / f"{PREFIX}.{system.name}.store")
    elif config.storage.path is not None:
        root = store_root(config.storage.path)
    else:
        root = str(kept_dir("store") if keep_store or system.detached else temporary_dir("store"))
    check_store(root)
    system.store_root = root
    system.store_stays = keep_store or (config.storage.path is not None and not config.scheduler.oracle)
    if not system.store_stays:
        system.on_stop(lambda: shutil.rmtree(root, ignore_errors=True))


def _end_actors(handles: Handles) -> None:
    others = [*handles.storage, *([handles.scheduler] if handles.scheduler is not None else [])]
    stop_actors(list(handles.traffic.values()), list(handles.engines.values()), others)
