"""What sysfs says of network devices."""

import socket

import pytest

from dualpath_ray.base.nic_devices import NicDevice, address_towards, by_interface, read_devices
from dualpath_ray.base.pci import PciPlace
from tests.unit.base.machines import FakeSys

SLOT = "pci0000:00/0000:00:01.0/0000:01:00.0"


def test_an_interface_with_an_rdma_device_is_one_device(tmp_path):
    FakeSys(tmp_path).nic("eth1", SLOT, numa=1, speed=100_000, rdma="mlx5_0")
    host = read_devices(tmp_path, {"eth1": ["10.0.0.1", "10.0.0.2"]}, tmp_path / "dev")
    expected = NicDevice(
        name="eth1",
        rdma="mlx5_0",
        addresses=("10.0.0.1", "10.0.0.2"),
        rate_bps=400 * 10**9,  # the RDMA port's own word
        up=True,
        driver="mlx5_core",
        place=PciPlace(tuple(SLOT.split("/")), 1),
        rdma_up=True,
    )
    assert host.nics == (expected,)
    assert host.named("eth1") is host.named("mlx5_0") is host.carrying("10.0.0.2") is host.nics[0]
    assert host.nics[0].ucx_name == "mlx5_0:1"
    assert host.named("eth2") is None and host.carrying("10.0.0.3") is None


def test_an_rdma_device_without_an_interface_has_no_address(tmp_path):
    FakeSys(tmp_path).rdma("mlx5_0", SLOT)
    (nic,) = read_devices(tmp_path, {}, tmp_path / "dev").nics
    assert (nic.name, nic.rdma, nic.address, nic.up) == ("mlx5_0", "mlx5_0", None, True)


@pytest.mark.parametrize("refused", [False, True])
def test_rdma_that_this_process_cannot_open_is_none(tmp_path, refused):
    """As in a container that was not given the device file, or may not open it."""
    fake = FakeSys(tmp_path)
    fake.nic("eth1", SLOT, speed=100_000, rdma="mlx5_0")
    fake.rdma("mlx5_1", SLOT)
    if refused:
        for name in ("mlx5_0", "mlx5_1"):  # opening a folder is refused, to root too
            (tmp_path / f"container/infiniband/uverbs_of_{name}").mkdir(parents=True)
    (nic,) = read_devices(tmp_path, {"eth1": ["10.0.0.1"]}, tmp_path / "container").nics
    assert (nic.name, nic.rdma, nic.ucx_name, nic.rate_bps) == ("eth1", None, "eth1", 100 * 10**9)


def test_a_bond_has_the_rdma_device_of_what_it_joins(tmp_path):
    """The address is the bond's, and the link and the place are the device's."""
    fake = FakeSys(tmp_path)
    fake.nic("eth1", SLOT, rdma="mlx5_bond_0")
    fake.nic("eth2", SLOT.replace("01:00.0", "01:00.1"))
    fake.bond("bond0", "eth1", "eth2")
    host = read_devices(tmp_path, {"bond0": ["10.0.0.1"]}, tmp_path / "dev")
    bond = host.named("mlx5_bond_0")
    assert bond is host.named("bond0") is host.carrying("10.0.0.1")
    assert (bond.ucx_name, bond.rate_bps, bond.driver) == ("mlx5_bond_0:1", 400 * 10**9, "mlx5_core")
    assert bond.place == host.named("eth1").place
    assert [nic.name for nic in host.nics] == ["bond0", "eth1", "eth2"], "bonding_masters is none"
    assert host.named("eth1").rdma is None


def test_each_port_of_an_rdma_device_is_a_device(tmp_path):
    fake = FakeSys(tmp_path)
    for port in (1, 2):
        fake.nic(f"eth{port}", SLOT, rdma="mlx4_0", port=port)
    fake.rdma("mlx4_0", SLOT, rate="40 Gb/sec (4X QDR)", port=2)
    host = read_devices(tmp_path, {}, tmp_path / "dev")
    assert [(nic.ucx_name, nic.rate_bps) for nic in host.nics] == [
        ("mlx4_0:1", 400 * 10**9),
        ("mlx4_0:2", 40 * 10**9),
    ]
    assert host.named("mlx4_0:2").name == "eth2"


def test_addresses_with_labels_are_their_interfaces():
    found = by_interface({"eth0": ["10.0.0.1"], "eth0:1": ["10.0.0.2"], "lo": ["127.0.0.1"]})
    assert found == {"eth0": ["10.0.0.1", "10.0.0.2"], "lo": ["127.0.0.1"]}


@pytest.mark.parametrize(("speed", "rate_bps"), [(25_000, 25 * 10**9), (-1, None), (None, None)])
def test_a_rate_that_the_driver_does_not_say_is_not_known(tmp_path, speed, rate_bps):
    FakeSys(tmp_path).nic("veth0", speed=speed)
    (nic,) = read_devices(tmp_path, {}, tmp_path / "dev").nics
    assert (nic.rate_bps, nic.driver, nic.place, nic.rdma) == (rate_bps, None, None, None)


def test_this_host_has_a_loopback_that_leads_to_itself():
    device = read_devices().carrying("127.0.0.1")
    assert device is not None and device.is_loopback
    assert address_towards("127.0.0.1") == "127.0.0.1"


def test_no_route_no_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, pytest.raises(OSError):
        any_socket.connect(("255.255.255.255", 9))  # a broadcast, which a socket must ask for
    assert address_towards("255.255.255.255") is None
