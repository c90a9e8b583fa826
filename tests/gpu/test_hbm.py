"""Every way of copying blocks to the GPU and back moves the right bytes, and no others."""

import numpy as np
import pytest
import torch

from dualpath_ray.engine.hbm.calls import CopyCalls
from dualpath_ray.engine.hbm.page_lock import lock, unlock
from dualpath_ray.engine.hbm.probe import probe, ways

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
            for way in [*ways(), CopyCalls()]:
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
    assert len(found) == len(ways()) >= 4
    assert all(p.to_device > 1e9 and p.to_host > 1e9 for p in found)
    assert (pool == kept).all()
