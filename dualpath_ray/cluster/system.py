"""A running system: its actors started in order, wired, watched, and removed without a trace."""

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, DualPathError, SystemDiedError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.expert_group import group_places
from dualpath_ray.cluster.fingerprint import code_fingerprint, fingerprint
from dualpath_ray.cluster.leftovers import kept_dir, sweep_dead, temporary_dir
from dualpath_ray.cluster.placement import Placement, RaySession
from dualpath_ray.cluster.plan import SystemPlan, check_machine, check_store, naming, store_root
from dualpath_ray.engine.actor import DecodeEngineActor, PrefillEngineActor
from dualpath_ray.engine.group import engine_id
from dualpath_ray.engine.profile import EngineProfile
from dualpath_ray.kv.segment import PREFIX, SHM_DIR, sweep
from dualpath_ray.scheduler.actor import ALONE_S, scheduler_actor
from dualpath_ray.storage.actor import StorageNodeActor
from dualpath_ray.storage.root import shard_root
from dualpath_ray.traffic.actor import traffic_manager_actor, traffic_name

SCHEDULER_NAME = "scheduler"
ANSWER_S = 20.0  # an actor that does not answer for so long hangs
_STARTUP_WAITS = 5  # calls that may each take startup_timeout_s, between the scheduler's start and its first fetch
Progress = Callable[[str], None]


class Handles:
    """The actors of a system, by name."""

    def __init__(self) -> None:
        self.scheduler: Any = None
        self.storage: list[Any] = []
        self.traffic: dict[str, Any] = {}
        self.prefill: dict[str, Any] = {}
        self.decode: dict[str, Any] = {}

    def named(self) -> dict[str, Any]:
        """Every actor under the name that people see."""
        out = {f"storage node {i}": handle for i, handle in enumerate(self.storage)}
        out |= {f"traffic manager {node}": handle for node, handle in self.traffic.items()}
        out |= {f"prefill engine {name}": handle for name, handle in self.prefill.items()}
        out |= {f"decode engine {name}": handle for name, handle in self.decode.items()}
        if self.scheduler is not None:
            out["scheduler"] = self.scheduler
        return out


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a process needs to use a system that another one started."""

    plan: SystemPlan
    fingerprint: str  # of the starter's code and configuration
    code: str  # of its code alone
    storage: list[Any]
    traffic: dict[str, Any]
    prefill: dict[str, Any]
    decode: dict[str, Any]


class System:
    """A started system. Use as a context manager, or call ``stop``."""

    def __init__(self, plan: SystemPlan, name: str, handles: Handles, profile: EngineProfile) -> None:
        self.plan, self.name, self.handles, self.profile = plan, name, handles, profile
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

    def status(self) -> dict[str, Any]:
        """Status of every actor, by kind and name."""
        h = self.handles
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
) -> System:
    """Start all actors of a plan.

    Args:   address: of a running Ray cluster; None starts a private one. keep_store: leave the store's files behind.
        empty_store: delete what a configured store holds from before.
    Raises: ConfigError for what the user can fix; nothing is left behind then either.
    """
    system = System(plan, f"{plan.config.name}-{secrets.token_hex(4)}", Handles(), EngineProfile(0.0, 0.0, 1.0, 1.0))
    try:
        with naming(plan.source):
            _start(system, address, keep_store, progress, empty_store)
    except BaseException:
        system.stop()
        raise
    return system


def _start(system: System, address: str | None, keep_store: bool, progress: Progress, empty_store: bool) -> None:
    plan, config, handles = system.plan, system.plan.config, system.handles
    sweep_dead()
    if address is None and not ray.is_initialized():
        check_machine(plan)
    session = RaySession()
    system.on_stop(session.close)
    cpus = plan.num_engines * plan.cpus_per_engine
    progress("starting Ray" if address is None else f"joining Ray at {address}")
    session.open(address, cpus, plan.gpus_per_engine > 0)
    placement = Placement()
    placement.check_cpus(cpus)
    placement.check_gpus(plan.num_engines * plan.gpus_per_engine)
    system.on_stop(placement.release)
    system.on_stop(lambda: sweep(system.name))
    root = _make_store(system, keep_store)
    system.on_stop(lambda: _end_actors(handles))

    progress("starting storage nodes, traffic managers and engines")
    store_spec = "local" if config.scheduler.oracle else config.storage.store
    handles.storage = [
        StorageNodeActor.options(name=f"storage/{i}", namespace=system.name, **placement.options_for("storage")).remote(
            f"storage{i}",
            store_spec,
            shard_root(root, i, config.storage.num_nodes),
            plan.layout,
            config.storage.capacity_bytes // config.storage.num_nodes,
            config.node.snic,
            plan.export_settings(system.name),
        )
        for i in range(config.storage.num_nodes)
    ]
    _wait([s.ping.remote() for s in handles.storage], "a storage node", config.startup_timeout_s)
    version = config.weights_version
    _wait([s.set_weights_version.remote(version) for s in handles.storage], "a storage node", config.startup_timeout_s)
    if empty_store:
        _wait([s.clear.remote() for s in handles.storage], "a storage node", config.startup_timeout_s)
    shards = _wait([s.shard.remote() for s in handles.storage], "a storage node", config.startup_timeout_s)
    if keep_store and not config.scheduler.oracle:
        progress(f"the store stays in {root}")
    for node in config.node_names:
        role = Role.PREFILL if node in config.prefill_names else Role.DECODE
        place = placement.reserve(
            role, config.node.gpus, plan.cpus_per_engine, plan.gpus_per_engine, config.startup_timeout_s
        )
        spec = plan.node_spec(system.name, node, root, store_spec)
        handles.traffic[node] = (
            traffic_manager_actor(config.transport)
            .options(
                name=traffic_name(node),
                namespace=system.name,
                num_cpus=0,
                num_gpus=plan.gpus_per_traffic_manager,
                scheduling_strategy=place,
            )
            .remote(spec, handles.storage, shards)
        )
        kind = PrefillEngineActor if role is Role.PREFILL else DecodeEngineActor
        engines = handles.prefill if role is Role.PREFILL else handles.decode
        for index in range(config.node.gpus):
            engines[engine_id(node, index)] = kind.options(
                name=f"{role}/{engine_id(node, index)}",
                namespace=system.name,
                num_cpus=plan.cpus_per_engine,
                num_gpus=plan.gpus_per_engine - (0.0 if index else plan.gpus_per_traffic_manager),
                scheduling_strategy=place,
            ).remote(plan.engine_spec(system.name, node, index))
    kind = scheduler_actor(len(config.node_names))
    handles.scheduler = kind.options(name=SCHEDULER_NAME, namespace=system.name, lifetime="detached").remote(
        plan.fetch_limits(system.profile),
        config.scheduler.read_path,
        [(node, Role.PREFILL if node in config.prefill_names else Role.DECODE) for node in config.node_names],
        Attachment(
            plan,
            fingerprint(config),
            code_fingerprint(),
            handles.storage,
            handles.traffic,
            handles.prefill,
            handles.decode,
        ),
        first_fetch_within_s=_STARTUP_WAITS * config.startup_timeout_s + ALONE_S,
        observe=plan.export_settings(system.name),
    )
    _wire(system, progress)


def _wire(system: System, progress: Progress) -> None:
    plan, config, handles = system.plan, system.plan.config, system.handles
    timeout = config.startup_timeout_s
    described = _wait([t.describe.remote() for t in handles.traffic.values()], "a traffic manager", timeout)
    places = dict(zip(handles.traffic, described, strict=True))
    prefill, decode = config.prefill_names, config.decode_names
    _wait(
        [
            handles.traffic[node].connect.remote({p: places[p] for p in (decode if node in prefill else prefill)})
            for node in handles.traffic
        ],
        "a traffic manager",
        timeout,
    )
    for sentence in _shared_devices(handles, timeout):
        progress(sentence)
    progress("loading the model, warming up" if config.profile else "loading the model, taking a short profile")
    engines = {**handles.prefill, **handles.decode}
    profiles = dict(
        zip(engines, _wait([e.warm_up.remote() for e in engines.values()], "an engine", timeout), strict=True)
    )
    slowest = min((profiles[name] for name in handles.prefill), key=lambda p: p["prompt_tokens_per_s"])
    system.profile = EngineProfile(**slowest)
    links = _wait([t.snic_bytes_per_s.remote() for t in handles.traffic.values()], "a traffic manager", timeout)
    slowest_link = min(links) if all(links) else None
    limits = plan.fetch_limits(system.profile, slowest_link)
    _wait([handles.scheduler.set_limits.remote(limits)], "the scheduler", timeout)
    group_of = [
        place
        for role, members in ((Role.PREFILL, handles.prefill), (Role.DECODE, handles.decode))
        for place in group_places(
            config, role, handles.traffic, list(members.values()), lambda refs, who: _wait(refs, who, timeout)
        )
    ]
    starts = [e.start.remote(handles.scheduler, place) for e, place in zip(engines.values(), group_of, strict=True)]
    _wait(starts, "an engine", timeout)


def _shared_devices(handles: Handles, timeout_s: float) -> list[str]:
    """A sentence for each device that is storage and compute NIC of a node at once, naming its nodes."""
    told = _wait([t.devices.remote() for t in handles.traffic.values()], "a traffic manager", timeout_s)
    nodes: dict[str, list[str]] = {}
    for node, devices in zip(handles.traffic, told, strict=True):
        if "both" in devices:
            nodes.setdefault(devices["both"], []).append(node)
    return [f"{', '.join(names)}: {sentence}" for sentence, names in nodes.items()]


def _make_store(system: System, keep_store: bool) -> str:
    """The store's directory: the configured one, or a temporary one; in memory, and never kept, for the oracle."""
    config = system.plan.config
    if config.scheduler.oracle:
        root = str(SHM_DIR / f"{PREFIX}.{system.name}.store")
    elif config.storage.path is not None:
        root = store_root(config.storage.path)
    else:
        root = str(kept_dir("store") if keep_store else temporary_dir("store"))
    check_store(root)
    if not keep_store and (config.storage.path is None or config.scheduler.oracle):
        system.on_stop(lambda: shutil.rmtree(root, ignore_errors=True))
    return root


def _end_actors(handles: Handles) -> None:
    """Let traffic managers unlink their segments, then end every process."""
    try:
        for engine in (*handles.prefill.values(), *handles.decode.values()):
            engine.stop.remote()  # not waited for: it leaves nothing behind, and one that hangs or loads would not answer
        stops = [manager.stop.remote() for manager in handles.traffic.values()]
        ray.wait(stops, num_returns=len(stops), timeout=10)
    finally:  # whoever is in a hurry (a second Ctrl-C) leaves nothing behind either
        for handle in handles.named().values():
            ray.kill(handle)


def _wait(refs: list[Any], who: str, timeout_s: float) -> list[Any]:
    """Results of start-up calls.

    Raises: the actor's own error (ConfigError and others of our tree); SystemDiedError when it died or hangs.
    """
    try:
        results: list[Any] = ray.get(refs, timeout=timeout_s)
        return results
    except ray.exceptions.GetTimeoutError as error:
        raise ConfigError(
            f"startup_timeout_s: {who} was not ready within {timeout_s:g} s; the cluster may lack free resources"
        ) from error
    except ray.exceptions.RayActorError as error:
        raise own_error(error) or SystemDiedError(f"{who} died while starting: {first_line(error)}") from error
    except ray.exceptions.RayTaskError as error:
        raise own_error(error) or SystemDiedError(f"{who} failed while starting: {first_line(error)}") from error


def ask(refs: Any, who: str) -> Any:
    """Results of calls to running actors.

    Raises: SystemDiedError naming ``who`` when it is gone or does not answer; the actor's own error of our tree.
    """
    try:
        return ray.get(refs, timeout=ANSWER_S)
    except ray.exceptions.GetTimeoutError as error:
        raise SystemDiedError(f"{who} does not answer within {ANSWER_S:g} s") from error
    except ray.exceptions.RayError as error:
        raise own_error(error) or SystemDiedError(f"{who} is gone: {first_line(error)}") from error


def own_error(error: BaseException) -> DualPathError | None:
    """The error of our own tree that an actor raised, if it is one."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, DualPathError):
        return cause
    if isinstance(error, DualPathError):
        return error
    text = str(error)  # an actor whose constructor raised: Ray keeps only the text
    for kind in (ConfigError,):
        marker = f"{kind.__module__}.{kind.__name__}: "
        if marker in text:
            return kind(text.rpartition(marker)[2].strip().splitlines()[0])
    return None


def first_line(error: BaseException) -> str:
    """What a Ray error comes to: its innermost message; of a dead process, that it is dead."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray has ended its process for want of memory"
    if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
        return "its process has died"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
