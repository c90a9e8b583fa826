"""The hardware of a node: packaged files hold the data sheets' numbers, a cluster's own values win, mistakes are named."""

import pytest
import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.hardware import (
    DenseFlops,
    HardwareConfig,
    hardware_of,
    io_per_compute_ratio,
    load_hardware,
    packaged_hardware,
)

OWN = {
    "name": "own",
    "gpus": 4,
    "hbm_bytes": "40 GB",
    "hbm_bytes_per_s": "1.5 TB/s",
    "flops": {"bf16": "300 TFLOPS"},
    "cnic_bps": "100 Gbps",
    "snic_bps": "100 Gbps",
    "dram_bytes_per_s": 200_000_000_000,
}
SMALLEST = {"prefill_nodes": 1, "decode_nodes": 2, "model": "toy-llama"}


def cluster(**more) -> ClusterConfig:
    return ClusterConfig.model_validate({**SMALLEST, **more})


def own(tmp_path, **changes) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in {**OWN, **changes}.items() if value is not None}))
    return str(path)


def test_the_papers_node():
    hopper = load_hardware("hopper")
    assert (hopper.gpus, hopper.hbm_bytes, hopper.hbm_bytes_per_s) == (8, 80 * 10**9, 3_350 * 10**9)
    assert hopper.cnic_bps == hopper.snic_bps == 400 * 10**9 and hopper.dram_bytes_per_s == 500 * 10**9
    assert hopper.flops == DenseFlops(bf16=989_400 * 10**9, fp8=1_978_900 * 10**9)


@pytest.mark.parametrize("name", ["ampere", "blackwell", "hopper"])
def test_packaged_hardware_has_its_name_and_grows_faster_for_smaller_types(name):
    hardware = load_hardware(name)
    rates = [rate for rate in (hardware.flops.bf16, hardware.flops.fp8, hardware.flops.fp4) if rate]
    assert hardware.name == name and rates == sorted(rates) and hardware.flops.best == rates[-1]
    assert packaged_hardware() == ["ampere", "blackwell", "hopper"]


def test_io_per_compute_fell_by_the_papers_factor():
    assert io_per_compute_ratio(load_hardware("ampere"), load_hardware("blackwell")) == pytest.approx(14.4, abs=0.05)
    assert io_per_compute_ratio(load_hardware("hopper"), load_hardware("hopper")) == 1


def test_a_file_of_ones_own(tmp_path):
    hardware = load_hardware(own(tmp_path))
    assert hardware.flops.best == 300 * 10**12 and hardware.flops.fp8 is None and hardware.nvlink_bytes_per_s is None
    assert hardware.hbm_bytes_per_s == 1_500 * 10**9 and hardware.dram_bytes_per_s == 200 * 10**9
    assert HardwareConfig.model_validate(hardware.model_dump()) == hardware


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpus": None}, "gpus: this key is required"),
        ({"gpu": 4}, "gpu: there is no such key; the keys are name, gpus, hbm_bytes,"),
        ({"hbm_bytes_per_s": "fast"}, "hbm_bytes_per_s: 'fast' is no rate"),
        ({"dram_bytes_per_s": 0}, "dram_bytes_per_s: 0 is not a positive rate"),
        ({"flops": {"bf16": "300 GB/s"}}, "flops.bf16: '300 GB/s' is no rate of computing; write for example"),
        ({"flops": {"fp8": "300 TFLOPS"}}, "flops.bf16: this key is required"),
        ({"snic_bps": "400 Gbps"}, "snic_bps must stay below gpus * cnic_bps (section 4.2 needs s < g)"),
    ],
    ids=str,
)
def test_a_mistake_is_named(tmp_path, changes, says):
    path = own(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_hardware(path)
    assert str(caught.value).startswith(f"{path}: {says}") and "\n" not in str(caught.value)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"hardware: there is no 'hoper'; write ampere, blackwell, hopper, or"):
        load_hardware("hoper")
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory; name a YAML file, or ampere"):
        load_hardware(str(tmp_path / "none.yaml"))


def test_a_clusters_own_values_win_over_its_hardwares():
    hopper = load_hardware("hopper")
    assert hardware_of(cluster(hardware="hopper"), "c.yaml") == hopper  # a default of node is no value of one's own
    node = {"gpus": 4, "snic_bps": "200 Gbps"}
    merged = hardware_of(cluster(hardware="hopper", node=node), "c.yaml")
    assert merged == hopper.model_copy(update={"gpus": 4, "snic_bps": 200 * 10**9})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "c.yaml: hardware: this key is required here; write ampere, blackwell, hopper, or a YAML file"),
        ({"hardware": "abacus"}, "c.yaml: hardware: there is no 'abacus'"),
        (
            {"hardware": "hopper", "node": {"gpus": 1}},
            "c.yaml: node and hardware hopper: snic_bps must stay below gpus * cnic_bps",
        ),
    ],
    ids=str,
)
def test_a_cluster_whose_hardware_is_wrong(more, says):
    with pytest.raises(ConfigError) as caught:
        hardware_of(cluster(**more), "c.yaml")
    assert str(caught.value).startswith(says)


def test_every_key_has_a_description():
    for model in (HardwareConfig, DenseFlops):
        assert all(field.description for field in model.model_fields.values())
