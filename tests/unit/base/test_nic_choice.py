"""Which device gets which role."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_choice import (
    NicChoice,
    both_roles,
    can_mark,
    choose_cnics,
    choose_snic,
    nearest_nics,
    ucx_devices,
)
from dualpath_ray.base.nic_devices import HostDevices, NicDevice, read_devices
from dualpath_ray.base.pci import PciPlace, distance
from tests.unit.base.machines import FakeSys

ETH = NicDevice("eth0", None, ("10.0.0.1",), 10**10, True)
STORAGE = NicDevice("eth1", None, ("10.1.0.1",), 25 * 10**9, True)
BARE = NicDevice("eth2")
HOST = HostDevices((ETH, STORAGE, BARE))


@pytest.fixture
def server(tmp_path):
    """Two sockets, each with a switch that has two GPUs and two NICs behind it, and an Ethernet device on the first."""
    sys = FakeSys(tmp_path)
    addresses = {"eth0": ["10.0.0.1"]}
    sys.nic("eth0", "pci0000:00/0000:00:05.0/0000:05:00.0", 0, 10_000)
    for socket, bridge in enumerate(("00", "80")):
        switch = f"pci0000:{bridge}/0000:{bridge}:01.0/0000:{bridge}:02.0"
        for slot in range(2):
            sys.gpu(f"{switch}/0000:{bridge}:03.{slot}/0000:{bridge}:1{slot}.0", socket)
            index = 2 * socket + slot
            sys.nic(
                f"ib{index}", f"{switch}/0000:{bridge}:04.{slot}/0000:{bridge}:1{slot}.1", socket, rdma=f"mlx5_{index}"
            )
            addresses[f"ib{index}"] = [f"10.2.0.{index}"]
    return read_devices(tmp_path, addresses, tmp_path / "dev")


def test_every_gpu_gets_a_nic_of_its_own_behind_its_switch(server):
    choices = choose_cnics(["auto"], "p0", server, 4, "10.0.0.1", True, "auto")
    assert [choice.name for choice in choices] == ["ib0", "ib1", "ib2", "ib3"]
    assert str(choices[2]) == "ib2, nearest to GPU 0000:80:10.0 (same switch)"


def test_more_engines_than_gpus_share_them(server):
    choices = choose_cnics(["auto"], "p0", server, 8, "10.0.0.1", True, "auto")
    assert (
        [choice.name for choice in choices[:4]]
        == [choice.name for choice in choices[4:]]
        == ["ib0", "ib1", "ib2", "ib3"]
    )


def test_engines_on_cpus_take_the_nodes_address(server):
    assert {choice.name for choice in choose_cnics(["auto"], "p0", server, 4, "10.0.0.1", False, "auto")} == {"eth0"}


def test_without_rdma_nearness_counts_for_nothing():
    gpus = (PciPlace(("pci0000:00", "0000:00:01.0")),)
    host = HostDevices((ETH, STORAGE), gpus)
    (choice,) = choose_cnics(["auto"], "p0", host, 1, "10.0.0.1", True, "auto")
    assert str(choice) == "eth0, it has the node's address 10.0.0.1"


def test_a_host_without_the_nodes_address_says_so():
    (choice,) = choose_cnics(["auto"], "p0", HOST, 1, "203.0.113.9", False, "auto")
    assert (choice.device, str(choice)) == (None, "no device here has the node's address 203.0.113.9")


@pytest.fixture
def pod(tmp_path):
    """Behind a GPU's switch an RDMA device whose interface is in another network namespace."""
    sys = FakeSys(tmp_path)
    sys.nic("eth0")
    sys.gpu("pci0000:00/0000:00:01.0/0000:01:00.0")
    sys.rdma("mlx5_0", "pci0000:00/0000:00:01.0/0000:02:00.0")
    return read_devices(tmp_path, {"eth0": ["10.0.0.1"]}, tmp_path / "dev")


@pytest.mark.parametrize(("transport", "expected"), [("auto", "mlx5_0"), ("nixl", "mlx5_0"), ("sockets", "eth0")])
def test_rdma_needs_no_address(pod, transport, expected):
    (choice,) = choose_cnics(["auto"], "p0", pod, 1, "10.0.0.1", True, transport)
    assert choice.name == expected
    assert ucx_devices(["auto"], [choice], pod) == ((choice.device,) if choice.device.rdma else ())
    if expected == "mlx5_0":
        assert choose_cnics(["mlx5_0"], "p0", pod, 1, "10.0.0.1", False, transport)[0].device is choice.device
        return
    with pytest.raises(ConfigError, match="^node.cnic: mlx5_0 of the host of p0 has no IPv4 address"):
        choose_cnics(["mlx5_0"], "p0", pod, 1, "10.0.0.1", True, transport)


def test_infiniband_needs_no_interface_that_is_up(tmp_path):
    sys = FakeSys(tmp_path)
    sys.nic("eth0")
    sys.gpu("pci0000:00/0000:00:01.0/0000:01:00.0")
    sys.nic("ib0", "pci0000:00/0000:00:01.0/0000:02:00.0", rdma="mlx5_0", operstate="down")
    host = read_devices(tmp_path, {"eth0": ["10.0.0.1"], "ib0": ["10.2.0.1"]}, tmp_path / "dev")

    def auto(on_gpus: bool, transport: str) -> NicChoice:
        return choose_cnics(["auto"], "p0", host, 1, "10.0.0.1", on_gpus, transport)[0]

    chosen = auto(True, "auto")
    assert (chosen.name, chosen.address) == ("ib0", None), "sockets cannot be reached at its address"
    assert auto(True, "sockets").name == "eth0"
    assert ucx_devices(["auto"], [auto(False, "auto")], host) == (), "UCX is not kept from it"


@pytest.mark.parametrize(
    ("names", "held_to"), [(["auto"], ()), (["eth0"], ("eth0",)), (["ib1", "ib0"], ("ib1", "ib0"))]
)
def test_engines_on_cpus_do_not_keep_ucx_from_rdma(server, names, held_to):
    choices = choose_cnics(names, "p0", server, 2, "10.0.0.1", False, "nixl")
    assert tuple(device.name for device in ucx_devices(names, choices, server)) == held_to


def test_without_rdma_ucx_is_held_to_the_nodes_address():
    choices = choose_cnics(["auto"], "p0", HOST, 2, "10.0.0.1", False, "nixl")
    assert ucx_devices(["auto"], choices, HOST) == (ETH,)


def test_names_are_one_for_all_or_one_each(server):
    def chosen(*names: str) -> list[str | None]:
        return [choice.name for choice in choose_cnics(names, "p0", server, 2, "10.0.0.1", True, "auto")]

    assert chosen("mlx5_3") == ["ib3", "ib3"]  # the same device by its other name
    assert chosen("ib2", "ib1") == ["ib2", "ib1"]
    assert chosen("auto", "ib0") == ["ib0", "ib0"]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ({}, (None, "the store is opened as files, over whatever device their file system uses")),
        ({"10.0.0.1": "10.0.0.1"}, (None, "the storage node is on this host")),
        ({"10.1.0.9": "10.1.0.1"}, ("eth1", "the route to the storage node at 10.1.0.9 goes by it")),
        (
            {"10.0.0.1": "10.0.0.1", "10.1.0.9": "10.1.0.1"},
            ("eth1", "the route to the storage node at 10.1.0.9 goes by it"),
        ),
        ({"10.1.0.9": None}, (None, "the route to the storage node at 10.1.0.9 is not known")),
    ],
)
def test_a_storage_nic_is_on_the_way_to_the_storage_node(routes, expected):
    choice = choose_snic("auto", "d0", HOST, routes)
    assert (choice.name, choice.why) == expected
    assert choose_snic("eth0", "d0", HOST, routes).name == "eth0"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "eth9",
            "the host of d0 has no network device eth9; it has eth0 (10.0.0.1), eth1 (10.1.0.1), eth2 (no address)",
        ),
        ("eth2", "eth2 of the host of d0 has no IPv4 address"),
    ],
)
def test_a_device_that_cannot_be_used_is_an_error_that_names_the_key(name, says):
    with pytest.raises(ConfigError, match="^node.snic: ") as caught:
        choose_snic(name, "d0", HOST, {})
    assert says in str(caught.value)
    with pytest.raises(ConfigError, match="^node.cnic: ") as caught:
        choose_cnics([name], "d0", HOST, 1, "10.0.0.1", False, "auto")
    assert says in str(caught.value)


def test_one_device_in_both_roles_is_told():
    snic = NicChoice(ETH, "")
    assert both_roles(snic, [STORAGE, ETH]) is not None
    assert both_roles(snic, [STORAGE]) is None
    assert both_roles(NicChoice(None, ""), [None]) is None


bridges = st.sampled_from(["0000:00:01.0", "0000:00:02.0"])
placed = st.builds(
    lambda root, bridge, leaf: PciPlace((root, bridge, leaf), 0 if root == "pci0000:00" else 1),
    st.sampled_from(["pci0000:00", "pci0000:80"]),
    bridges,
    st.sampled_from(["0000:01:00.0", "0000:02:00.0"]),
)


@given(st.lists(placed, min_size=1, max_size=4), st.lists(st.none() | placed, min_size=1, max_size=4))
def test_nobody_is_given_a_farther_device_than_the_nearest(gpus, nic_places):
    nics = [NicDevice(f"eth{i}", place=place) for i, place in enumerate(nic_places)]
    found = nearest_nics(gpus, nics)
    for gpu, (nic, far) in zip(gpus, found, strict=True):
        assert far is distance(gpu, nic.place) is min(distance(gpu, other.place) for other in nics)
    uses = [sum(nic is chosen for chosen, _ in found) for nic in nics]
    alike = len(set(gpus)) == 1 and len(set(nic_places)) == 1
    assert not alike or max(uses) - min(uses) <= 1, "equally near ones are shared out"


def test_ucx_marks_packets_by_rdma_alone(server):
    assert can_mark(server.nics) and not can_mark(HOST.nics) and not can_mark([])
    assert not can_mark([NicDevice("ib0", "mlx5_0", rdma_up=False)])
