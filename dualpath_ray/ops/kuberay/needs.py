"""What the pods of a system need on Kubernetes: arithmetic over its plan. One pod holds one logical node."""

from dataclasses import dataclass
from math import ceil

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.plan import SystemPlan

MIB, GIB = 2**20, 2**30
OBJECT_STORE_BYTES = 256 * MIB  # object-store-memory of every group in cluster_configs/kuberay/base/ray-cluster.yaml

# Memory beside weights and KV. tests/slow/test_kuberay_job.py holds the sums against what pods of a job took.
_HEAD_BYTES = 1024 * MIB  # Ray's head: GCS, dashboard, raylet and agents, job supervisor
_NODE_BYTES = 512 * MIB  # of a worker pod: raylet and agents, traffic manager or storage node
_TORCH_BYTES = 768 * MIB  # a process with torch and transformers; a batch's activations
_CUDA_BYTES = 3 * GIB  # the same with a CUDA context and NCCL; an allowance, not measured in pods
_SPARE_SHM_BYTES = 64 * MIB  # segments of libraries
_HUGEPAGE_BYTES = 256 * MIB  # a process' UCX: its own buffers, for which it takes other pages where these end


@dataclass(frozen=True, slots=True)
class PodNeeds:
    """The least that a pod of one group must have."""

    group: str  # head, prefill, decode or storage
    pods: int
    ray_cpus: int  # what Ray may give out: those of one logical node, so that no second one shares the pod's /dev/shm
    cpus: int
    gpus: int
    memory_bytes: int  # the pages of /dev/shm are among them
    shm_bytes: int
    hugepage_bytes: int


def pod_needs(plan: SystemPlan, weight_bytes: int) -> dict[str, PodNeeds]:
    """What each group's pods need, by the group's name.

    Args:   weight_bytes: of the model in one engine, in ``engine.dtype``.
    Raises: ConfigError when engines have no CPUs of their own, for a share of the driver's machine means nothing in a
        cluster, or so few that two nodes would fit into a pod.
    """
    config = plan.config
    if config.engine.cpus is None:
        raise ConfigError(
            f"{plan.source}: engine.cpus: unset, which shares the cores of whichever pod the driver runs in; set it"
        )
    on_gpus = config.engine.device == "cuda"
    engines = config.node.gpus
    engine_cpus = ceil(engines * config.engine.cpus)
    if engine_cpus >= 2 * engines * config.engine.cpus:
        raise ConfigError(
            f"{plan.source}: engine.cpus: a pod's Ray has whole CPUs, on which two nodes of {engines * config.engine.cpus:g} "
            "fit, but its /dev/shm is for one; set more"
        )
    engine_bytes = weight_bytes + (_CUDA_BYTES if on_gpus else _TORCH_BYTES)
    decode_kv_bytes = 0 if on_gpus else plan.hbm_tokens * plan.layout.token_bytes  # "HBM" of an engine without a GPU
    checked_bytes = 0 if on_gpus else weight_bytes  # of the plain model in the driver; a head has no GPU to check on

    def engine_pods(role: Role, pods: int, kv_bytes: int) -> PodNeeds:
        shm = plan.buffer_bytes(role) + OBJECT_STORE_BYTES + _SPARE_SHM_BYTES
        return PodNeeds(
            group=role,
            pods=pods,
            ray_cpus=engine_cpus,
            cpus=engine_cpus + 1,  # for the traffic manager and Ray
            gpus=ceil(engines * plan.gpus_per_engine - 1e-6),
            memory_bytes=_NODE_BYTES + shm + engines * (engine_bytes + kv_bytes),
            shm_bytes=shm,
            hugepage_bytes=(engines + 1) * _HUGEPAGE_BYTES if on_gpus else 0,
        )

    def other_pods(group: str, pods: int, own_bytes: int) -> PodNeeds:
        shm = OBJECT_STORE_BYTES + _SPARE_SHM_BYTES
        return PodNeeds(group, pods, 0, 1, 0, shm + own_bytes, shm, 0)

    needs = (
        other_pods("head", 1, _HEAD_BYTES + _TORCH_BYTES + checked_bytes),
        engine_pods(Role.PREFILL, config.prefill_nodes, 0),
        engine_pods(Role.DECODE, config.decode_nodes, decode_kv_bytes),
        other_pods("storage", config.storage.num_nodes, _NODE_BYTES),
    )
    return {each.group: each for each in needs}
