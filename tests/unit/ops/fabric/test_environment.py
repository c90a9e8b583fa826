"""Environment files: a shell that sources one has the lane of its class, and the devices by their RDMA names."""

import subprocess

import pytest

from dualpath_ray.base.nic_devices import HostDevices
from dualpath_ray.ops.fabric.files import fabric_files
from tests.unit.ops.fabric.cases import HOST, cluster


def sourced(tmp_path, config, name: str, host=HOST) -> dict[str, str]:
    (file,) = (each for each in fabric_files(config, host) if each.name == name)
    (tmp_path / name).write_text(file.text)
    done = subprocess.run(["env", "-i", "sh", "-c", f". ./{name}; env"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {key: value for key, value in found.items() if key.startswith(("NCCL_", "UCX_"))}


@pytest.mark.parametrize(
    ("kind", "name", "variables"),
    [
        ("infiniband", "env-model-execution.sh", {"NCCL_IB_SL": "0", "NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}),
        ("infiniband", "env-kv-urgent.sh", {"UCX_IB_SL": "1", "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:1"}),
        ("infiniband", "env-kv-cache.sh", {"UCX_IB_SL": "2", "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:1"}),
        ("roce", "env-model-execution.sh", {"NCCL_IB_TC": "186", "NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}),
        ("roce", "env-kv-urgent.sh", {"UCX_IB_TRAFFIC_CLASS": "138", "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:1"}),
        ("roce", "env-kv-cache.sh", {"UCX_IB_TRAFFIC_CLASS": "106", "UCX_NET_DEVICES": "mlx5_0:1,mlx5_1:1"}),
    ],
)
def test_a_class_has_its_lane_and_the_named_devices(tmp_path, kind, name, variables):
    assert sourced(tmp_path, cluster(kind), name) == variables


@pytest.mark.parametrize("kind", ["infiniband", "roce"])
def test_auto_names_no_device_and_one_that_is_not_here_keeps_its_name(tmp_path, kind):
    assert set(sourced(tmp_path, cluster(kind, ["auto"]), "env-kv-cache.sh")) <= {"UCX_IB_SL", "UCX_IB_TRAFFIC_CLASS"}
    found = sourced(tmp_path, cluster(kind), "env-model-execution.sh", HostDevices())
    assert found["NCCL_IB_HCA"] == "=ens1,mlx5_1"
