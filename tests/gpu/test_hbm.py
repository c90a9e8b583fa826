"""Every way of copying blocks to the GPU and back moves the right bytes, and no others."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.nic_devices import read_devices
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.engine.hbm.calls import CopyCalls
from dualpath_ray.engine.hbm.loopback import CnicLoopback, gpu_address, loopback_device
from dualpath_ray.engine.hbm.page_lock import lock, unlock
from dualpath_ray.engine.hbm.probe import measured, probe, ways
from tests.unit.transport.two_agents import MARKS, PORTS, listening_ports

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("nbytes", [16, 100, 4096, 16384 + 8, 1 << 20])
def test_blocks_go_there_and_back(nbytes):
    count, stride = 300, nbytes * 3 + 64
    pool = np.random.default_rng(0).integers(0, 256, count * stride, np.uint8)
    lock(pool)
    try:
        with torch.cuda.stream(torch.cuda.Stream()):
            for way in [*ways(pool), CopyCalls()]:
                _check(way, pool, count, stride, nbytes)
    finally:
        torch.cuda.synchronize()
        unlock(pool)


def _check(way, pool, count, stride, nbytes):
    kept = pool.copy()
    device = torch.zeros(count * nbytes + 64, dtype=torch.uint8, device="cuda")
    slots = np.random.default_rng(1).permutation(count).astype(np.uint64)
    base = np.uint64(pool.__array_interface__["data"][0])
    host = slots * np.uint64(stride) + base
    target = np.arange(count, dtype=np.uint64) * np.uint64(nbytes) + np.uint64(device.data_ptr())
    blocks = way.prepare(host, target, nbytes)
    way.to_device(blocks, host_offset=32, device_offset=64)
    torch.cuda.synchronize()
    found = device.cpu().numpy()
    assert not found[:64].any(), way.name
    for index, slot in enumerate(slots.astype(int)):
        at = slot * stride + 32
        assert (found[64 + index * nbytes :][:nbytes] == kept[at : at + nbytes]).all(), way.name
    device.fill_(9)
    way.to_host(blocks, host_offset=32)
    torch.cuda.synchronize()
    for slot in slots.astype(int):
        at = slot * stride + 32
        assert (pool[at : at + nbytes] == 9).all(), way.name
        pool[at : at + nbytes] = kept[at : at + nbytes]
    assert (pool == kept).all(), way.name


def test_the_probe_measures_every_way_and_leaves_the_pool_as_it_was():
    pool = torch.empty(64 << 20, dtype=torch.uint8, pin_memory=True).random_().numpy()
    kept = pool.copy()
    found = probe(pool, 65536, 131072, 16 << 20)
    assert len(found) == len(ways(pool)) >= 4
    assert all(p.to_device > 1e9 and p.to_host > 1e9 for p in found)
    assert (pool == kept).all()


# The CNIC's loopback, over TCP: these machines have no RDMA device. All of it runs but RDMA itself.


@contextmanager
def loopback(pool, mark=None):
    pytest.importorskip("nixl", reason="NIXL is not installed")
    lock(pool)
    way = CnicLoopback(pool, "lo", mark)
    try:
        with torch.cuda.stream(torch.cuda.Stream()):
            yield way
    finally:
        torch.cuda.synchronize()
        way.end()
        unlock(pool)


def test_the_loopback_moves_the_right_bytes():
    count, nbytes = 300, 16384 + 8
    pool = np.random.default_rng(0).integers(0, 256, count * (nbytes * 3 + 64), np.uint8)
    with loopback(pool) as way:
        _check(way, pool, count, nbytes * 3 + 64, nbytes)
        way.check()


def test_the_loopback_copies_in_the_streams_order():
    """Layer after layer goes through one buffer, as in a ring: in, changed by the GPU, out."""
    layers, nbytes = 6, 1 << 16
    pool = np.zeros(2 * layers * nbytes, np.uint8)
    for layer in range(layers):
        pool[layer * nbytes : (layer + 1) * nbytes] = layer + 1
    base = np.array([pool.__array_interface__["data"][0]], np.uint64)
    with loopback(pool) as way:
        buffer = torch.zeros(nbytes, dtype=torch.uint8, device="cuda")
        _ready(buffer)
        blocks = way.prepare(base, np.array([buffer.data_ptr()], np.uint64), nbytes)
        for layer in range(layers):
            torch.cuda._sleep(20_000_000)  # some milliseconds: a copy that did not wait would be early
            way.to_device(blocks, host_offset=layer * nbytes)
            buffer += 100
            way.to_host(blocks, host_offset=(layers + layer) * nbytes)
            buffer.zero_()
        torch.cuda.synchronize()
        way.check()
    for layer in range(layers):
        assert (pool[(layers + layer) * nbytes :][:nbytes] == layer + 101).all()


def _ready(buffer):
    """UCX's TCP, other than RDMA, calls CUDA for a copy, and a kernel's first call holds CUDA until the GPU is idle."""
    buffer += 100
    buffer.zero_()
    torch.cuda._sleep(1)
    torch.cuda.synchronize()


def test_a_copy_that_fails_is_told_and_holds_nobody_up():
    pool = np.zeros(1 << 20, np.uint8)
    elsewhere = np.zeros(4096, np.uint8)  # which the agent does not know
    with loopback(pool) as way:
        buffer = torch.full((4096,), 7, dtype=torch.uint8, device="cuda")
        addresses = np.array([buffer.data_ptr()], np.uint64)
        way.to_device(way.prepare(np.array([elsewhere.__array_interface__["data"][0]], np.uint64), addresses, 4096))
        torch.cuda.synchronize()
        with pytest.raises(TransportError, match="CNIC in loopback"):
            way.check()
        good = way.prepare(np.array([pool.__array_interface__["data"][0]], np.uint64), addresses, 4096)
        with pytest.raises(TransportError, match="CNIC in loopback"):
            way.to_device(good)
        torch.cuda.synchronize()
        assert (buffer == 7).all()


def test_the_loopbacks_agent_has_its_mark():
    """UCX marks no packets over TCP: the ports on which an agent listens take the mark's place."""
    before, traffic_class = listening_ports(), TrafficClass.KV_CACHE
    with loopback(np.zeros(1 << 20, np.uint8), MARKS[traffic_class]):
        ports = listening_ports() - before
        assert ports and ports <= set(PORTS[traffic_class])


def test_a_gpu_is_known_by_the_kernels_name_for_it():
    assert gpu_address() in [gpu.address for gpu in read_devices().gpus]


def test_the_loopback_needs_a_nic_with_rdma():
    with pytest.raises(ConfigError, match="engine.cnic_loopback: it needs a compute NIC with RDMA .* lo is none"):
        loopback_device("lo")


def test_the_probe_measures_the_loopback_beside_the_others_where_it_is_asked_for():
    pytest.importorskip("nixl", reason="NIXL is not installed")
    pool = torch.empty(8 << 20, dtype=torch.uint8, pin_memory=True).random_().numpy()
    kept = pool.copy()
    found = [p.way for p in probe(pool, 65536, 131072, 1 << 20, loopback=partial(CnicLoopback, device="lo"))]
    assert [isinstance(way, CnicLoopback) for way in found].count(True) == 1
    assert (pool == kept).all()
    for way in found:
        way.end()


def test_a_way_that_fails_is_left_out():
    class Broken(CopyCalls):
        def to_host(self, *args, **kwargs):
            raise RuntimeError("no way back")

    pool = torch.zeros(1 << 20, dtype=torch.uint8, pin_memory=True).numpy()
    device = torch.zeros(4096, dtype=torch.uint8, device="cuda")
    addresses = np.array([pool.__array_interface__["data"][0]], np.uint64), np.array([device.data_ptr()], np.uint64)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert measured(Broken(), *addresses, 4096) is None and measured(CopyCalls(), *addresses, 4096) is not None
