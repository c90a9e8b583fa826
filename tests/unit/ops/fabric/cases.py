"""Configurations that files are written for, and random queues of RoCE."""

from hypothesis import strategies as st

from dualpath_ray.base.nic_devices import HostDevices, NicDevice
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.config.roce import COMPUTE_CLASSES, RoceConfig

HOST = HostDevices((NicDevice("ens1", "mlx5_0"), NicDevice("ens2", "mlx5_1"), NicDevice("eth0")))


def cluster(kind: str, devices=("ens1", "mlx5_1"), **fabric) -> ClusterConfig:
    node = {"gpus": len(devices), "cnic": list(devices)}
    system = {"prefill_nodes": 2, "decode_nodes": 4, "model": "toy-llama", "node": node}
    return parse_cluster(system | {"fabric": {"kind": kind} | fabric}, "c.yaml")


def make_roce(priorities, dscps, shares, num_lossless) -> RoceConfig:
    return RoceConfig(
        dscp=dict(zip(COMPUTE_CLASSES, dscps, strict=False)),
        priorities=dict(zip(COMPUTE_CLASSES, priorities, strict=False)),
        ets_percent=dict(zip(COMPUTE_CLASSES, shares, strict=True)),
        control_dscps=dscps[3:],
        control_priority=priorities[4],
        other_priority=priorities[3],
        other_ets_percent=100 - sum(shares),
        pfc_priorities=priorities[:num_lossless],
    )


roces = st.builds(
    make_roce,
    st.permutations(range(8)),
    st.lists(st.integers(0, 63), min_size=3, max_size=6, unique=True),
    st.lists(st.integers(1, 32), min_size=3, max_size=3),
    st.integers(0, 3),
)
