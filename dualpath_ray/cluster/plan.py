"""From a configuration to what every actor is told. Everything that can be known to fail is found here, before a start."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from dualpath_ray.base.errors import ConfigError, DualPathError, StoreFullError
from dualpath_ray.base.nic_choice import AUTO, CNIC_KEY, SNIC_KEY, named_device, uses_rdma
from dualpath_ray.base.nic_devices import read_devices
from dualpath_ray.base.types import Role, TrafficClass
from dualpath_ray.base.units import bytes_per_s, format_bytes
from dualpath_ray.cluster.expert_group import all_to_all_bytes
from dualpath_ray.config.cluster import COPIES_GPU_SHARE, ClusterConfig
from dualpath_ray.engine.actor import EngineSpec
from dualpath_ray.engine.describe import ModelDescription, describe
from dualpath_ray.engine.device import num_cuda_devices
from dualpath_ray.engine.prefill import PrefillLimits
from dualpath_ray.engine.profile import ALPHA_S, EngineProfile
from dualpath_ray.engine.pull import local_model
from dualpath_ray.engine.toy import is_large_shape
from dualpath_ray.kv.keys import KeyScope
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import SHM_DIR, segment_bytes
from dualpath_ray.observability.ray_export import ExportSettings
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import FetchLimits
from dualpath_ray.storage.load import store_factory
from dualpath_ray.storage.root import is_address
from dualpath_ray.traffic.actor import NodeSpec
from dualpath_ray.transport.load import check_transport

_NO_LIMIT_TOKENS = 2**40
LEAST_IO_DEPTH, MOST_IO_DEPTH = 4, 64


@dataclass(frozen=True, slots=True)
class SystemPlan:
    """A configuration with every value filled in."""

    source: str  # file that the configuration came from, for errors
    config: ClusterConfig
    description: ModelDescription
    layout: KvLayout
    scope: KeyScope
    max_context_tokens: int
    pe_slots: int
    de_slots: int
    hbm_tokens: int
    cpus_per_engine: float

    @property
    def num_engines(self) -> int:
        return (self.config.prefill_nodes + self.config.decode_nodes) * self.config.node.gpus

    @property
    def gpus_per_engine(self) -> float:
        return self.config.engine.gpus if self.config.engine.device == "cuda" else 0.0

    @property
    def gpus_per_traffic_manager(self) -> float:
        """A traffic manager whose copies cross a GPU takes its share from its node's first engine."""
        return COPIES_GPU_SHARE if self.config.transport == "rdt_cuda_ipc" else 0.0

    @property
    def threads_per_engine(self) -> int:
        return max(1, int(self.cpus_per_engine))

    @property
    def staging_layers(self) -> int:
        """Layers in flight; without layerwise a whole batch is."""
        depth = self.config.node.staging_layers if self.config.scheduler.layerwise else self.layout.num_layers
        return min(depth, self.layout.num_layers)

    @property
    def staging_bytes(self) -> int:
        """Of a prefill node: a region of the longest context per layer in flight and engine."""
        region = self.max_context_tokens * self.layout.bytes_per_token_layer
        return self.config.node.gpus * self.staging_layers * region

    def prompt_copies(self, num_samples: int) -> int:
        """Of a prompt's KV in a decode engine: on a GPU each sample has its own."""
        return num_samples if self.config.engine.device == "cuda" else 1

    def buffer_bytes(self, role: Role) -> int:
        """Segment of one node."""
        if role is Role.PREFILL:
            return segment_bytes(self.layout, self.pe_slots, self.staging_bytes)
        return segment_bytes(self.layout, self.de_slots, 0)

    def shared_memory_bytes(self) -> int:
        """Segments of all nodes."""
        prefill, decode = self.config.prefill_nodes, self.config.decode_nodes
        return prefill * self.buffer_bytes(Role.PREFILL) + decode * self.buffer_bytes(Role.DECODE)

    def export_settings(self, system: str) -> ExportSettings:
        """What every actor and client is told about metrics and state lines."""
        given = self.config.observability
        return ExportSettings(system, given.metrics, given.metrics_interval_s, given.state_line_s)

    def node_spec(self, names: tuple[str, str], node: str, role: Role, store_root: str, store_spec: str) -> NodeSpec:
        """What the traffic manager of a node is told. Args: names: of the system, and of its segments and sockets."""
        config, nic = self.config, self.config.node
        charged = not config.scheduler.oracle

        def rate(bps: int | None) -> float | None:
            return bytes_per_s(bps) if bps else None

        return NodeSpec(
            system=names[0],
            shm_name=names[1],
            node=node,
            nodes=tuple(config.node_names),
            role=role,
            num_engines=nic.gpus,
            layout=self.layout,
            num_slots=self.pe_slots if role is Role.PREFILL else self.de_slots,
            staging_bytes=self.staging_bytes if role is Role.PREFILL else 0,
            staging_layers=self.staging_layers,
            buffer_key="node.pe_buffer_bytes" if role is Role.PREFILL else "node.de_buffer_bytes",
            snic=nic.snic,
            cnics=tuple(nic.cnic),
            on_gpus=config.engine.device == "cuda",
            snic_in_bytes_per_s=rate(nic.snic_bps),
            snic_out_bytes_per_s=rate(nic.snic_write_bps or nic.snic_bps),
            cnic_bytes_per_s=rate(nic.cnic_bps),
            snic_lanes=config.fabric.snic.lanes,
            cnic_lanes=config.fabric.cnic.lanes,
            tos=config.fabric.tos,
            marks=config.fabric.marks,
            charged=charged,
            store=store_spec,
            store_root=store_root if config.scheduler.oracle else config.storage.mounts.get(node, store_root),
            verify=config.storage.verify,
            transport=config.transport,
            max_write_back_blocks=min(config.storage.max_write_back_blocks, max(1, self.de_slots // 4)),
            store_access="files" if config.scheduler.oracle else config.storage.access,
            least_io_depth=config.storage.io_depth or LEAST_IO_DEPTH,
            most_io_depth=config.storage.io_depth or MOST_IO_DEPTH,
            report_interval_s=config.scheduler.fetch_interval_s,
            observe=self.export_settings(names[0]),
        )

    def engine_spec(self, names: tuple[str, str], node: str, role: Role, engine: int) -> EngineSpec:
        """What one engine is told. Args: names: as ``node_spec``."""
        config, scheduler = self.config, self.config.scheduler
        limits = PrefillLimits(
            layerwise=scheduler.layerwise,
            quota_s=scheduler.compute_quota_s if scheduler.quota else None,
            min_chunk_tokens=scheduler.min_chunk_tokens,
            max_batch_tokens=config.engine.max_batch_tokens if scheduler.quota else self.max_context_tokens,
            max_rows=self.max_context_tokens,
        )
        return EngineSpec(
            system=names[0],
            shm_name=names[1],
            node=node,
            role=role,
            engine=engine,
            num_engines=config.node.gpus,
            threads=self.threads_per_engine,
            device=config.engine.device,
            description=self.description,
            dtype=config.engine.dtype,
            kv_dtype=config.engine.stored_dtype,
            seed=config.seed,
            max_context_tokens=self.max_context_tokens,
            hbm_tokens=self.hbm_tokens,
            urgent_s=config.fabric.urgent_s,
            all_to_all_bytes=all_to_all_bytes(config, role),
            loopback=config.node.cnic[engine % len(config.node.cnic)] if config.engine.cnic_loopback else None,
            loopback_mark=config.fabric.marks.get(TrafficClass.KV_CACHE),
            limits=limits,
            profile=EngineProfile(**config.profile) if config.profile else None,
            fetch_interval_s=scheduler.fetch_interval_s,
            observe=self.export_settings(names[0]),
        )

    def fetch_limits(self, profile: EngineProfile, snic_link_bytes_per_s: float | None = None) -> FetchLimits:
        """Alpha and beta of section 6: configured, or from the profile and the storage NIC's rate.

        Args: snic_link_bytes_per_s: of the slowest node's device; a rate that is emulated takes its place.
        """
        config = self.config
        alpha = config.scheduler.alpha_tokens
        if alpha is None:
            snic = config.node.snic_bps
            rate = bytes_per_s(snic) if snic else snic_link_bytes_per_s
            rates = [known for known in (rate, profile.read_bytes_per_s) if known]
            alpha = int(min(rates) * ALPHA_S / self.layout.token_bytes) if rates else _NO_LIMIT_TOKENS
        return FetchLimits(
            short_read_queue_tokens=max(1, alpha),
            max_unfinished_tokens=config.scheduler.beta_tokens or profile.beta_tokens(),
            token_bytes=self.layout.token_bytes,
            block_tokens=self.layout.block_tokens,
        )


def make_plan(config: ClusterConfig, source: str, max_context_tokens: int | None = None) -> SystemPlan:
    """Fill in every value that depends on the model or the machine.

    Args:   source: names the configuration in errors; max_context_tokens: what the workload needs, when known.
    Raises: ConfigError in one sentence that names the source and the key.
    """
    with naming(source):
        return _plan(config, source, max_context_tokens)


def check_machine(plan: SystemPlan, store_bytes: int = 0) -> None:
    """Whether this machine can hold a system whose actors all run here.

    Args:   store_bytes: of the oracle's store, which is kept in shared memory.
    Raises: ConfigError in one sentence that names the source and the key.
    """
    with naming(plan.source):
        if plan.config.engine.device == "cuda":
            _check_gpus(plan)
        _check_memory(plan)
        _check_shared_memory(plan, store_bytes)
        _check_cores(plan)
        _check_devices(plan.config)
        if plan.config.storage.path is not None and not plan.config.scheduler.oracle:
            check_store(store_root(plan.config.storage.path))


@contextmanager
def naming(source: str) -> Iterator[None]:
    """What the user can fix names the file that it stands in."""
    try:
        yield
    except (ConfigError, StoreFullError) as error:
        if (with_name := named(error, source)) is error:
            raise
        raise with_name from error


def named(error: DualPathError, source: str) -> DualPathError:
    """The same error, naming the file when it is one that the user can fix there."""
    said = str(error)
    elsewhere = said.startswith((source, "--", "Ray "))  # it has a name already, or is about a flag or this machine
    return (
        type(error)(f"{source}: {said}") if isinstance(error, ConfigError | StoreFullError) and not elsewhere else error
    )


def _plan(config: ClusterConfig, source: str, wanted_context: int | None) -> SystemPlan:
    load_policy(config.scheduler.read_path)  # these three raise here what would otherwise end a half-started system
    store_factory(config.storage.store)
    check_transport(config.transport)
    if is_large_shape(config.model) and config.engine.device != "cuda":
        raise ConfigError(f"model: the weights of {config.model} are made on a GPU; set engine.device: cuda")
    if not config.scheduler.prefetch:
        raise ConfigError("scheduler.prefetch: false is for `dualpath simulate`; a running system always prefetches")
    description = describe(local_model(config.model), config.engine.dtype, config.seed)
    layout = KvLayout(
        description.num_layers, config.block_tokens, description.bytes_per_token_layer(config.engine.stored_dtype)
    )
    context = config.engine.max_context_tokens or min(wanted_context or 2**62, description.max_context_tokens)
    if context > description.max_context_tokens:
        raise ConfigError(
            f"engine.max_context_tokens: {context} is beyond the {description.max_context_tokens} of {config.model}"
        )
    longest = layout.num_blocks(context)
    node = config.node
    pe_slots = _slots("node.pe_buffer_bytes", node.pe_buffer_bytes, 4 * node.gpus * longest, longest, layout)
    de_slots = _slots("node.de_buffer_bytes", node.de_buffer_bytes, 8 * node.gpus * longest, longest, layout)
    kv_token = layout.token_bytes
    hbm_tokens = config.engine.hbm_kv_bytes // kv_token if config.engine.hbm_kv_bytes else 8 * context
    if hbm_tokens < layout.block_tokens:
        raise ConfigError(
            f"engine.hbm_kv_bytes: {format_bytes(config.engine.hbm_kv_bytes or 0)} hold {hbm_tokens} tokens, "
            f"less than one block of {layout.block_tokens}"
        )
    num_engines = (config.prefill_nodes + config.decode_nodes) * node.gpus
    cpus = config.engine.cpus or _share_of_cores(num_engines)
    plan = SystemPlan(
        source=source,
        config=config,
        description=description,
        layout=layout,
        scope=KeyScope(
            config.tenant,
            description.fingerprint,
            config.weights_version,
            "x".join(map(str, layout.shape)),
            config.engine.stored_dtype,
        ),
        max_context_tokens=context,
        pe_slots=pe_slots,
        de_slots=de_slots,
        hbm_tokens=hbm_tokens,
        cpus_per_engine=cpus,
    )
    if config.storage.capacity_bytes // config.storage.num_nodes < layout.sealed_bytes:
        raise ConfigError(
            f"storage.capacity_bytes: {format_bytes(config.storage.capacity_bytes)} on {config.storage.num_nodes} storage "
            f"node(s) is less than one block of {format_bytes(layout.sealed_bytes)} each"
        )
    if config.profile is not None:
        try:
            EngineProfile(**config.profile)
        except TypeError as error:
            raise ConfigError(f"profile: not a result of `dualpath profile` ({error})") from error
    return plan


def _slots(key: str, given: int | None, default: int, longest: int, layout: KvLayout) -> int:
    if given is None:
        return default
    slots = given // layout.slot_bytes
    if slots < 1:
        raise ConfigError(
            f"{key}: {format_bytes(given)} is smaller than one block, which takes {format_bytes(layout.slot_bytes)}"
        )
    return min(slots, 64 * longest)  # more could never be in use


def _share_of_cores(num_engines: int) -> float:
    """CPUs of one engine when the engines share this machine's cores; below one core they still have one thread each."""
    cores = len(os.sched_getaffinity(0))
    share = cores / num_engines
    return float(int(share)) if share >= 1 else round(share - 0.005, 2)


def _check_devices(config: ClusterConfig) -> None:
    host = read_devices()
    rdma = uses_rdma(config.transport)
    for key, names, by_rdma in ((SNIC_KEY, [config.node.snic], False), (CNIC_KEY, config.node.cnic, rdma)):
        for name in names:
            if name != AUTO:
                named_device(name, key, "this machine", host, by_rdma)


def _check_cores(plan: SystemPlan) -> None:
    cores, cpus = len(os.sched_getaffinity(0)), plan.config.engine.cpus
    if cpus is not None and cpus * plan.num_engines > cores:
        raise ConfigError(
            f"engine.cpus: {plan.num_engines} engines of {cpus:g} CPUs are more than this machine's {cores} cores; "
            "lower it, or leave it out and the engines share the cores"
        )


def _check_gpus(plan: SystemPlan) -> None:
    """A model is on one device, so an engine's share is of one."""
    have = num_cuda_devices()
    if not have:
        raise ConfigError(
            "engine.device: cuda, but torch finds no CUDA device here; use cpu, or install a torch for CUDA"
        )
    fit = have * engines_per_gpu(plan.gpus_per_engine)
    if plan.num_engines > fit:
        share = 1 / -(-plan.num_engines // have)
        raise ConfigError(
            f"engine.gpus: of {plan.num_engines} engines with {plan.gpus_per_engine:g} of a GPU each, {fit} fit on this "
            f"machine's {have}; {int(share * 100) / 100:g} lets all of them share"
        )


def engines_per_gpu(share: float) -> int:
    """Engines that take ``share`` of a GPU each and fit on one. Pure."""
    return int(1 / share + 1e-6)


def _check_memory(plan: SystemPlan) -> None:
    needed, free = plan.num_engines * plan.description.weight_bytes, psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"model: {plan.config.model} takes {format_bytes(plan.description.weight_bytes)} in each of "
            f"{plan.num_engines} engines, {format_bytes(needed)} in all, but this machine has {format_bytes(free)} free; "
            "use fewer nodes or a smaller model"
        )


def _check_shared_memory(plan: SystemPlan, store_bytes: int) -> None:
    needed = plan.shared_memory_bytes() + store_bytes
    extra = " and the oracle's store" if store_bytes else ""
    free = os.statvfs(SHM_DIR)
    available = free.f_bavail * free.f_frsize
    if needed > available:
        raise ConfigError(
            f"node.pe_buffer_bytes and node.de_buffer_bytes: the buffers of {len(plan.config.node_names)} nodes"
            f"{extra} need {format_bytes(needed)} of {SHM_DIR}, which has {format_bytes(available)} free; make them or "
            "engine.max_context_tokens smaller, or mount a larger /dev/shm (docker run --shm-size)"
        )


def store_root(path: str) -> str:
    """Directory or address that a configuration means by ``storage.path``."""
    return path if is_address(path) else str(Path(path).expanduser().resolve())


def check_store(root: str) -> None:
    """Raises: ConfigError when the store's directory cannot be made or written. An address is tried by its storage node."""
    if is_address(root):
        return
    path = Path(root)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".dualpath-write-probe"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"storage.path: {path} cannot be written: {error.strerror}; name another directory"
        ) from error
