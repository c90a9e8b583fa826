"""Which devices a node's copies are counted on."""

import pytest

from dualpath_ray.base.nic_devices import NicDevice
from dualpath_ray.traffic.carriers import Carriers

ETH, IB0, IB1 = NicDevice("eth0", rate_bps=10), NicDevice("ib0", "mlx5_0", rate_bps=400), NicDevice("ib1", "mlx5_1")


@pytest.mark.parametrize(
    ("transports", "devices", "on_host"),
    [
        ({"d0": "shared_memory"}, (), {"d0"}),
        ({"d0": "sockets"}, (ETH,), set()),
        ({"d0": "nixl"}, (IB0, IB1), set()),
        ({"d0": "shared_memory", "d1": "nixl"}, (IB0, IB1), {"d0"}),
        ({"d0": "nixl", "d1": "sockets"}, (IB0, IB1, ETH), set()),
        ({"d0": "collective", "d1": "sockets"}, (), set()),
    ],
)
def test_copies_are_on_the_devices_of_their_transports(transports, devices, on_host):
    carriers = Carriers(transports, ETH, (IB0, IB1))
    assert (carriers.devices, carriers.on_host) == (devices, on_host)


def test_what_ucx_takes_by_itself_is_not_known():
    carriers = Carriers({"d0": "nixl", "d1": "sockets"}, ETH, ())
    assert (carriers.devices, carriers.name, carriers.link_bps) == ((), None, None)
    assert carriers.says("eth0") == "; copies go over what their transport takes"


def test_engines_share_devices_and_their_rate():
    carriers = Carriers({"d0": "nixl", "d1": "shared_memory"}, ETH, (IB0, ETH))
    assert (carriers.name, carriers.link_bps) == ("ib0, eth0", 410)
    assert carriers.says("ib0") == "; the engines' copies share ib0, eth0"
    assert Carriers({"d0": "nixl", "d1": "sockets"}, ETH, (IB0,)).link_bps is None, "each peer has a rate of its own"
    assert Carriers({"d0": "nixl", "d1": "sockets"}, ETH, (ETH,)).link_bps == 10, "one device is one rate"
    assert Carriers({"d0": "nixl"}, ETH, (IB0, IB1)).link_bps is None, "one link's rate is not known"


def test_one_device_needs_no_more_words_and_none_says_that_nothing_leaves():
    assert Carriers({"d0": "sockets"}, ETH, (IB0,)).says("eth0") == ""
    assert Carriers({"d0": "shared_memory"}, ETH, (IB0,)).says("ib0") == "; no copy leaves this host"
