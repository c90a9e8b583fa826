"""``dualpath doctor``: the map of a machine, and what is wrong with it."""

import json
import socket
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.nic_devices import HostDevices, NicDevice, read_devices
from dualpath_ray.base.pci import PciPlace
from dualpath_ray.cli.main import run
from dualpath_ray.ops.doctor import software
from dualpath_ray.ops.doctor.check import Check, Level, lines
from dualpath_ray.ops.doctor.host import judge_shared_memory, store_check
from dualpath_ray.ops.doctor.nics import gpu_checks, nic_checks, role_checks
from dualpath_ray.ops.doctor.software import transport_checks
from tests.unit.base.machines import FakeSys


def near(name: str, bridge: str, numa: int, rdma: str | None = None, **more) -> NicDevice:
    return NicDevice(name, rdma, place=PciPlace((f"pci0000:{bridge}", "0000:00:01.0", "0000:01:00.0"), numa), **more)


@pytest.mark.parametrize(
    ("nic", "level", "says"),
    [
        (near("ib0", "00", 0, "mlx5_0"), Level.OK, "nearest NIC ib0, same switch"),
        (near("ib0", "40", 0, "mlx5_0"), Level.OK, "nearest NIC ib0, same NUMA node"),
        (near("ib0", "80", 1, "mlx5_0"), Level.WARNING, "nearest NIC ib0, across sockets"),
        (near("eth0", "80", 1), Level.OK, "nearest NIC eth0, across sockets, no RDMA"),
        (NicDevice("veth0"), Level.OK, "no NIC on PCIe"),
    ],
)
def test_each_gpu_is_told_its_nearest_nic(nic, level, says):
    gpu = PciPlace(("pci0000:00", "0000:00:01.0", "0000:02:00.0"), 0)
    assert [(c.name, c.level, c.says) for c in gpu_checks(HostDevices((nic,), (gpu,)))] == [
        ("GPU 0000:02:00.0", level, says)
    ]


def test_nics_are_told_with_driver_rate_address_and_role(tmp_path):
    fake = FakeSys(tmp_path)
    fake.nic("eth0", "pci0000:00/0000:00:05.0/0000:05:00.0", 0, 25_000)
    fake.nic("ib0", "pci0000:00/0000:00:01.0/0000:01:00.0", 0, rdma="mlx5_0")
    fake.nic("lo")
    fake.gpu("pci0000:00/0000:00:01.0/0000:02:00.0")
    host = read_devices(tmp_path, {"eth0": ["10.0.0.1"], "ib0": ["10.2.0.1"], "lo": ["127.0.0.1"]}, tmp_path / "dev")
    found, roles = role_checks(host, "10.0.0.1", "eth0", ["auto"], 1, True, "auto")
    assert found == []
    assert [(check.name, check.says) for check in nic_checks(host, roles)] == [
        ("NIC eth0", "mlx5_core, link 25 Gbps, 10.0.0.1, no RDMA: storage NIC (named in node.snic)"),
        (
            "NIC ib0",
            "mlx5_core, link 400 Gbps, 10.2.0.1, RDMA mlx5_0: compute NIC (nearest to GPU 0000:02:00.0 (same switch))",
        ),
    ]


def test_one_device_in_both_roles_is_a_warning_and_a_wrong_name_an_error():
    host = HostDevices((NicDevice("eth0", None, ("10.0.0.1",), up=True),))
    (both,), _ = role_checks(host, "10.0.0.1", "eth0", ["auto"], 1, False, "auto")
    assert both.level is Level.WARNING and both.says.startswith("eth0 is storage NIC and compute NIC at once")
    (wrong,), _ = role_checks(host, "10.0.0.1", "eth9", ["auto"], 1, False, "auto")
    assert (wrong.name, wrong.level) == ("node.snic", Level.ERROR)
    assert wrong.says == "this machine has no network device eth9; it has eth0 (10.0.0.1)"


def test_a_device_with_a_role_that_is_down_is_an_error():
    host = HostDevices((NicDevice("eth0", None, ("10.0.0.1",)), NicDevice("eth1")))
    found, _ = role_checks(host, "10.0.0.1", "eth0", ["eth0"], 1, False, "auto")
    (down,) = (check for check in found if check.level is Level.ERROR)
    assert (down.name, down.remedy) == ("NIC eth0", "bring it up: ip link set eth0 up")


@pytest.mark.parametrize(
    ("transport", "snic", "down"),
    [("auto", "auto", []), ("sockets", "auto", ["NIC ib0"]), ("auto", "ib0", ["NIC ib0"])],
)
def test_rdma_needs_no_interface_that_is_up(transport, snic, down):
    host = HostDevices((NicDevice("ib0", "mlx5_0", ("10.0.0.1",), rdma_up=True),))
    found, _ = role_checks(host, "10.0.0.1", snic, ["ib0"], 1, False, transport)
    assert [check.name for check in found if check.level is Level.ERROR] == down


@given(st.integers(0, 2**40), st.integers(1, 2**38), st.integers(1, 8))
def test_shared_memory_is_judged_by_what_fits(free, node, num_nodes):
    found = judge_shared_memory(free, node, node * num_nodes)
    fits = min(num_nodes, free // node)
    assert found.level is (Level.OK if fits == num_nodes else Level.WARNING if fits else Level.ERROR)
    assert (found.remedy == "") == (found.level is Level.OK)


def test_a_store_is_tried_where_it_would_be_and_nothing_is_left(tmp_path):
    assert store_check(tmp_path / "not" / "yet").level is not Level.ERROR
    assert list(tmp_path.iterdir()) == []
    found = store_check(Path("/proc/nowhere"))
    assert found.level is Level.ERROR and "/proc cannot be written" in found.says


def test_what_needs_nixl_says_so_and_is_an_error_where_it_is_wanted(monkeypatch):
    for module in ("nixl", "nixl._api"):
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    found = {check.name: check for check in transport_checks("rdt")}
    assert found["transport rdt"].level is Level.ERROR and "dualpath-ray[nixl]" in found["transport rdt"].says
    assert found["transport sockets"].level is Level.OK
    assert {check.level for check in transport_checks("auto")} <= {Level.OK, Level.WARNING}


def test_what_needs_a_gpu_says_so_where_it_is_wanted_alone(monkeypatch):
    monkeypatch.setattr(software, "num_cuda_devices", lambda: 0)
    for wanted, level in (("rdt_cuda_ipc", Level.ERROR), ("auto", Level.OK)):
        found = {check.name: check for check in transport_checks(wanted)}["transport rdt_cuda_ipc"]
        assert found.level is level and "there is no GPU" in found.says


def test_a_check_is_a_line():
    checks = [Check("a", "fine"), Check("longer", "bad", Level.ERROR, "mend it")]
    assert lines(checks) == ["ok       a       fine", "error    longer  bad; mend it"]


def doctor(capsys, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    code = run(["doctor", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_the_exit_code_says_whether_there_is_an_error(capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "{}:{}".format(*server.getsockname())
        code, checks = doctor(capsys, "--address", address)
        assert code == (1 if "error" in {check["level"] for check in checks} else 0)
        assert [check["level"] for check in checks if check["name"] == "Ray"] == ["ok"]
    code, checks = doctor(capsys, "--address", address)
    assert code == 1
    assert [check["level"] for check in checks if check["name"] == "Ray"] == ["error"]


def test_a_configuration_is_checked_on_this_machine(capsys, tmp_path):
    config = tmp_path / "my.yaml"
    small = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16}
    config.write_text(
        yaml.safe_dump({**small, "node": {"snic": "eth99"}, "storage": {"path": str(tmp_path / "store")}})
    )
    code, checks = doctor(capsys, str(config))
    found = {check["name"]: check for check in checks}
    assert code == 1
    assert found["node.snic"]["level"] == "error" and "has no network device eth99" in found["node.snic"]["says"]
    assert found["store"]["says"].startswith(str(tmp_path))
    assert "enough for all nodes" in found["/dev/shm"]["says"]


def test_a_file_that_is_no_configuration_is_bad_input(capsys, tmp_path):
    assert run(["doctor", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
