"""Places on PCI Express and the distances between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.pci import Distance, PciPlace, distance, place_of, read_gpus
from tests.unit.base.machines import FakeSys

GPU = PciPlace(("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"), 0)
steps = st.lists(st.sampled_from(["0000:00:01.0", "0000:01:00.0", "0000:02:00.0"]), min_size=1, max_size=4)
places = st.builds(
    lambda bridge, path, numa: PciPlace((bridge, *path), numa),
    st.sampled_from(["pci0000:00", "pci0000:80"]),
    steps,
    st.sampled_from([None, 0, 1]),
)


@pytest.mark.parametrize(
    ("path", "numa", "expected"),
    [
        (("pci0000:00", "0000:00:01.0", "0000:01:00.0", "0000:02:01.0", "0000:04:00.0"), 0, Distance.SAME_SWITCH),
        (("pci0000:00", "0000:00:01.0", "0000:01:00.1"), 0, Distance.SAME_SWITCH),
        (("pci0000:00", "0000:00:02.0", "0000:05:00.0"), 0, Distance.SAME_HOST_BRIDGE),
        (("pci0000:40", "0000:40:02.0", "0000:41:00.0"), 0, Distance.SAME_NUMA_NODE),
        (("pci0000:80", "0000:80:02.0", "0000:81:00.0"), 1, Distance.ACROSS_SOCKETS),
    ],
)
def test_distances_of_a_gpu(path, numa, expected):
    assert distance(GPU, PciPlace(path, numa)) is expected


def test_what_is_not_on_pcie_is_farthest():
    assert distance(GPU, None) is Distance.NOT_ON_PCIE is max(Distance)


@given(places, places)
def test_distance_is_the_same_both_ways(one, other):
    assert distance(one, other) is distance(other, one)


@given(places, places, st.sampled_from(["0000:03:00.0", "0000:04:00.0"]))
def test_one_more_shared_bridge_brings_nobody_farther(one, other, bridge):
    def behind(place: PciPlace) -> PciPlace:
        return PciPlace((one.path[0], bridge, *place.path[1:]), place.numa_node)

    assert distance(behind(one), behind(other)) is Distance.SAME_SWITCH <= distance(one, other)


def test_a_place_is_read_from_the_real_path(tmp_path):
    sys = FakeSys(tmp_path)
    sys.nic("eth0", "pci0000:80/0000:80:01.0/0000:81:00.0", numa=1)
    place = place_of(tmp_path / "class/net/eth0/device")
    assert place == PciPlace(("pci0000:80", "0000:80:01.0", "0000:81:00.0"), 1)
    virtio = tmp_path / "devices/pci0000:00/0000:00:03.0/virtio2"  # a part of a function
    sys.pci("pci0000:00/0000:00:03.0", numa=-1)
    virtio.mkdir()
    assert place_of(virtio) == PciPlace(("pci0000:00", "0000:00:03.0"), None)
    assert place_of(tmp_path) is None


def test_gpus_are_told_by_vendor_and_class(tmp_path):
    sys = FakeSys(tmp_path)
    sys.gpu("pci0000:00/0000:00:01.0/0000:02:00.0")
    sys.gpu("pci0000:00/0000:00:01.0/0000:01:00.0")
    sys.pci("pci0000:00/0000:00:02.0", vendor="0x10de", **{"class": "0x068000"})  # an NVSwitch
    sys.pci("pci0000:00/0000:00:03.0", vendor="0x1002", **{"class": "0x030000"})  # another vendor's
    assert [gpu.address for gpu in read_gpus(tmp_path)] == ["0000:01:00.0", "0000:02:00.0"]
    assert read_gpus(tmp_path / "nowhere") == []
