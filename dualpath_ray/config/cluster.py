"""The configuration of a system. A file needs only ``prefill_nodes``, ``decode_nodes`` and ``model``.

Checked once, where it enters; past that line it is typed, frozen and right. Values that depend on the model or the
machine stay None here and are filled in by ``cluster/plan.py``.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dualpath_ray.base.units import parse_bps, parse_bytes
from dualpath_ray.config.fabric import FabricConfig
from dualpath_ray.config.section import Section
from dualpath_ray.config.ui import UiConfig

Bps = Annotated[PositiveInt, BeforeValidator(parse_bps)]
Bytes = Annotated[PositiveInt, BeforeValidator(parse_bytes)]

_DEVICE_NAME = re.compile(r"[A-Za-z0-9_.:@-]+")


def _device_name(text: str) -> str:
    if not _DEVICE_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a network device; write for example eth1, mlx5_0 or auto")
    return text


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


Device = Annotated[str, AfterValidator(_device_name)]
Devices = Annotated[list[Device], BeforeValidator(_one_or_more)]


COPIES_GPU_SHARE = (
    0.01  # of a traffic manager whose copies cross a GPU: Ray maps a tensor only where it assigned the GPU
)
FILE_STORES = ("local", "nixl_posix", "nixl_gds", "nixl_hf3fs", "usrbio")


class NodeConfig(Section):
    """One logical node: its engines, its NICs and its DRAM buffer."""

    gpus: PositiveInt = Field(1, description="Engines of a node; each has a compute NIC of its own.")
    snic: Device = Field(
        "auto", description="Device of the storage NIC: eth1, mlx5_0, or auto: that of the route to a storage node."
    )
    cnic: Devices = Field(
        ["auto"],
        description="Device of the compute NICs, or a list with one for each engine. auto: on GPUs the nearest with RDMA, "
        "else that of the node's address.",
    )
    snic_bps: Bps | None = Field(
        None,
        description="Emulated rate of the storage NIC per direction. Unset: not emulated, as fast as device or disk.",
    )
    snic_write_bps: Bps | None = Field(
        None, description="Emulated rate of the storage NIC for writes; unset: the same as snic_bps."
    )
    cnic_bps: Bps | None = Field(
        None, description="Emulated rate of each compute NIC per direction. Unset: not emulated, as fast as it is."
    )
    pe_buffer_bytes: Bytes | None = Field(
        None, description="DRAM buffer of a prefill node. Unset: four longest prompts."
    )
    de_buffer_bytes: Bytes | None = Field(
        None, description="DRAM buffer of a decode node. Unset: eight longest prompts."
    )
    staging_layers: PositiveInt = Field(3, description="Layers in flight between a compute NIC and an engine.")
    role_labels: Literal["auto", "required"] = Field(
        "auto",
        description="Ray nodes of a role are those with the label dualpath-role. auto: a role that no Ray node is labelled "
        "with may go anywhere. required: it waits for one, which an autoscaler adds.",
    )


class EngineConfig(Section):
    """The torch engines."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="Where the model runs.")
    gpus: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of a GPU of an engine on cuda; 0.5 puts two engines on one."
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of weights and computation; bfloat16 is what GPUs are fast at."
    )
    kv_dtype: Literal["float32", "bfloat16", "float8_e4m3"] | None = Field(
        None,
        description="Type in which KV is kept and moved. Unset: dtype. Rounding changes some tokens; runs say how many.",
    )
    all_to_all_bytes: Bytes | None = Field(
        None,
        description="Bytes that a token sends to other engines, and gets back, in each layer: the all-to-all of expert "
        "parallelism, as model-execution traffic. Unset: none.",
    )
    all_to_all: Literal["auto", "exchanged", "replayed"] = Field(
        "auto",
        description="exchanged: the engines of a role send these bytes to one another, over gloo or NCCL. replayed: each "
        "keeps its emulated compute NIC busy with them. auto: exchanged on NICs that are not emulated.",
    )
    cnic_loopback: bool = Field(
        False,
        description="On cuda: let the GPU's compute NIC copy between DRAM and HBM where it is the fastest (section 5.2). "
        "It has not been run on RDMA yet.",
    )
    cpus: PositiveFloat | None = Field(
        None, description="CPUs, and so threads, of an engine. Unset: the cores, shared."
    )
    hbm_kv_bytes: Bytes | None = Field(None, description="KV memory of a decode engine. Unset: eight longest contexts.")
    max_batch_tokens: PositiveInt = Field(512, description="New tokens of one prefill batch at most.")
    max_context_tokens: PositiveInt | None = Field(
        None, description="Longest context served. Unset: the model's limit."
    )
    prefill_shard_nodes: PositiveInt | None = Field(
        None, description="Prefill nodes that share one copy of the weights, for simulate. Unset: all of them."
    )
    decode_shard_nodes: PositiveInt | None = Field(
        None, description="Decode nodes that share one copy of the weights, for simulate. Unset: all of them."
    )

    @property
    def stored_dtype(self) -> str:
        """Of KV."""
        return self.kv_dtype or self.dtype


class SchedulerConfig(Section):
    """The policy of section 6, and its ablations."""

    read_path: str = Field("scheduled", description="prefill_only, round_robin, scheduled, or module:attr.")
    layerwise: bool = Field(True, description="Move KV layer by layer while the layers compute.")
    quota: bool = Field(True, description="Pack prefill batches by predicted attention time (chunked prefill).")
    prefetch: bool = Field(
        True, description="For simulate: read a hit before its batch is formed. The live system always does."
    )
    oracle: bool = Field(False, description="Charge no I/O: the upper bound. KV is kept in memory.")
    compute_quota_s: PositiveFloat = Field(0.3, description="Attention time of one layer per prefill batch.")
    min_chunk_tokens: PositiveInt = Field(64, description="A prompt is cut into chunks no smaller than this.")
    alpha_tokens: PositiveInt | None = Field(
        None, description="A short read queue. Unset: 3 s of the storage NIC or the profile."
    )
    beta_tokens: PositiveInt | None = Field(None, description="Most unfinished tokens of a prefill engine. Unset: 5 s.")
    fetch_interval_s: PositiveFloat = Field(
        0.02,
        description="A leader or client calls the scheduler at most this often; 0.1 to 0.2 s for a hundred groups.",
    )


class StorageConfig(Section):
    """The shared store."""

    store: str = Field(
        "local",
        description="local, nixl_posix, nixl_gds, nixl_hf3fs, usrbio (3FS), s3, memory (one process), or module:attr.",
    )
    path: str | None = Field(
        None, description="Directory of the store, or s3://bucket/prefix. Unset: a temporary one, removed at the end."
    )
    access: Literal["auto", "files", "network"] = Field(
        "auto", description="How nodes reach it: its files, its storage nodes, or files where they are the same."
    )
    capacity_bytes: Bytes = Field(8 * 2**30, description="Blocks are evicted beyond this.")
    num_nodes: PositiveInt = Field(1, description="Storage nodes; each owns a shard of the block space.")
    verify: bool = Field(True, description="Check every block that is read: intact, and the one asked for.")
    max_write_back_blocks: PositiveInt = Field(64, description="Blocks of decoding requests in the write-back queue.")
    io_depth: PositiveInt | None = Field(
        None, description="Reads, and writes, in flight per node. Unset: from 4 to 64, as many as make it faster."
    )
    servers_bps: Bps | None = Field(
        None, description="Rate of all storage servers together, for simulate. Unset: never the limit."
    )
    mounts: dict[str, str] = Field(default_factory=dict, description="Node name -> path of the store on that node.")


class ObservabilityConfig(Section):
    """What a running system tells of itself."""

    metrics: bool = Field(True, description="Every actor exports metrics through Ray (docs/metrics.md).")
    metrics_interval_s: PositiveFloat = Field(5.0, description="Between two exports of an actor's metrics.")
    state_line_s: NonNegativeFloat = Field(
        10.0, description="Between two state lines in an actor's log; 0 writes none."
    )


class ClusterConfig(Section):
    """A system: P prefill nodes, D decode nodes, a model, and everything that has a default."""

    prefill_nodes: PositiveInt = Field(description="Prefill nodes (P).")
    decode_nodes: PositiveInt = Field(description="Decode nodes (D).")
    model: str = Field(description="smollm2-135m, a local Hugging Face directory, a hub name, or a toy-* test model.")
    name: str = Field("dualpath", pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Name of the system.")
    block_tokens: PositiveInt = Field(64, description="Tokens of a block.")
    tenant: str = Field("default", description="Enters every block key: two tenants share nothing.")
    weights_version: Annotated[int, Field(ge=0)] = Field(0, description="Enters every block key.")
    seed: int = Field(0, description="Seed of workload and toy weights.")
    transport: str = Field(
        "auto",
        description="auto (the best for each pair of nodes), shared_memory, sockets, nixl, collective (Ray's, over gloo), "
        "rdt (Ray's tensors over NIXL), rdt_cuda_ipc (through a GPU that nodes share), or module:attr.",
    )
    node: NodeConfig = NodeConfig()
    fabric: FabricConfig = FabricConfig()
    engine: EngineConfig = EngineConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    storage: StorageConfig = StorageConfig()
    observability: ObservabilityConfig = ObservabilityConfig()
    ui: UiConfig = UiConfig()
    hardware: str | None = Field(
        None, description="Hardware of a node for `simulate` and `plan`: hopper, ampere, blackwell, or a YAML file."
    )
    profile: dict[str, NonNegativeFloat] | None = Field(
        None, description="Result of `dualpath profile`. Unset: a short one at start."
    )
    startup_timeout_s: NonNegativeFloat = Field(300.0, description="The system must be up within this time.")

    @model_validator(mode="after")
    def _storage_below_compute(self) -> Self:
        snic, cnic = self.node.snic_bps, self.node.cnic_bps
        if snic and cnic and snic >= self.node.gpus * cnic:
            raise ValueError("node.snic_bps must stay below node.gpus * node.cnic_bps (section 4.2 needs s < g)")
        if self.node.snic_write_bps and not snic:
            raise ValueError("node.snic_write_bps is set but node.snic_bps is not: an emulated NIC needs both")
        return self

    @model_validator(mode="after")
    def _a_compute_nic_each(self) -> Self:
        if len(self.node.cnic) not in (1, self.node.gpus):
            raise ValueError(
                f"node.cnic names {len(self.node.cnic)} devices for node.gpus: {self.node.gpus}; write one, or one for each"
            )
        return self

    @model_validator(mode="after")
    def _gpu_for_its_channel(self) -> Self:
        on_gpu = self.engine.device == "cuda"
        if self.transport == "rdt_cuda_ipc" and not on_gpu:
            raise ValueError("transport: rdt_cuda_ipc moves bytes through a GPU; set engine.device: cuda, or use auto")
        if self.transport == "rdt_cuda_ipc" and self.engine.gpus <= COPIES_GPU_SHARE:
            raise ValueError(f"engine.gpus: transport rdt_cuda_ipc takes {COPIES_GPU_SHARE} of a GPU of it; set more")
        if self.engine.cnic_loopback and not on_gpu:
            raise ValueError("engine.cnic_loopback copies to and from a GPU; set engine.device: cuda, or remove it")
        return self

    @model_validator(mode="after")
    def _collectives_have_peers(self) -> Self:
        engine = self.engine
        if not engine.all_to_all_bytes:
            if engine.all_to_all != "auto":
                raise ValueError(
                    f"engine.all_to_all: {engine.all_to_all} what? Set engine.all_to_all_bytes, or remove it"
                )
            return self
        if engine.all_to_all == "replayed" and not self.node.cnic_bps:
            raise ValueError(
                "engine.all_to_all: bytes are replayed on emulated compute NICs; set node.cnic_bps, or exchanged"
            )
        if not self.exchanges_collectives:
            return self
        emulate = "emulate compute NICs by node.cnic_bps and they are replayed"
        if max(self.prefill_nodes, self.decode_nodes) * self.node.gpus == 1:
            raise ValueError(
                f"engine.all_to_all_bytes are exchanged between engines of a role, of which there is one; add nodes, or {emulate}"
            )
        if engine.device == "cuda" and engine.gpus < 1:
            raise ValueError(
                f"engine.gpus: NCCL exchanges engine.all_to_all_bytes and wants a GPU for each engine; set 1, or {emulate}"
            )
        return self

    @property
    def exchanges_collectives(self) -> bool:
        """Whether engines exchange model-execution traffic, those that have peers; else they replay it."""
        engine = self.engine
        exchanged = engine.all_to_all == "exchanged" or (engine.all_to_all == "auto" and not self.node.cnic_bps)
        return exchanged and bool(engine.all_to_all_bytes)

    @model_validator(mode="after")
    def _memory_store_is_one_process(self) -> Self:
        if self.storage.store == "memory":
            raise ValueError("storage.store: memory lives in one process and serves tests; use local")
        if self.storage.store == "s3" and "://" not in (self.storage.path or ""):
            raise ValueError("storage.path: the store s3 needs an address; write s3://bucket/prefix")
        if self.storage.store in FILE_STORES and "://" in (self.storage.path or ""):
            raise ValueError(f"storage.path: the store {self.storage.store} needs a directory, not an address")
        unknown = set(self.storage.mounts) - set(self.node_names)
        if unknown:
            raise ValueError(f"storage.mounts names {sorted(unknown)[0]!r}; the nodes are {', '.join(self.node_names)}")
        return self

    @property
    def prefill_names(self) -> list[str]:
        return [f"p{i}" for i in range(self.prefill_nodes)]

    @property
    def decode_names(self) -> list[str]:
        return [f"d{i}" for i in range(self.decode_nodes)]

    @property
    def node_names(self) -> list[str]:
        return self.prefill_names + self.decode_names
