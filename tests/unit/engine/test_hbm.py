"""Copies between slots and engine memory: the CPU's way, and the choice among a GPU's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.engine.hbm.cpu import CpuCopy
from dualpath_ray.engine.hbm.probe import Probed, choose


def addresses(array: np.ndarray, offsets: list[int]) -> np.ndarray:
    return np.array(offsets, np.uint64) + np.uint64(array.__array_interface__["data"][0])


def test_blocks_go_there_and_back_at_any_offset():
    pool = np.random.default_rng(0).integers(0, 256, 4096, np.uint8)
    kept, memory = pool.copy(), np.zeros(1024, np.uint8)
    way = CpuCopy()
    blocks = way.prepare(addresses(pool, [2048, 0, 512]), addresses(memory, [0, 100, 200]), 64)
    assert blocks.total_bytes == 192
    way.to_device(blocks, host_offset=256, device_offset=32)
    for slot, at in ((2048, 0), (0, 100), (512, 200)):
        assert (memory[at + 32 : at + 96] == kept[slot + 256 : slot + 320]).all()
    assert not memory[:32].any() and not memory[296:].any()
    memory[:] = 7
    way.to_host(blocks, host_offset=64)
    for slot in (2048, 0, 512):
        assert (pool[slot + 64 : slot + 128] == 7).all()
        pool[slot + 64 : slot + 128] = kept[slot + 64 : slot + 128]
    assert (pool == kept).all()


probed = st.builds(
    Probed, st.just(CpuCopy()), st.floats(1e8, 6e10), st.floats(1e8, 6e10), st.sampled_from([0, 4, 8, 16])
)


@given(st.lists(probed, min_size=1))
def test_nearly_the_best_rate_with_the_fewest_multiprocessors(ways):
    chosen = choose(ways)
    best = max(way.to_device for way in ways)
    assert chosen.to_device >= 0.95 * best
    assert not any(w.thread_blocks < chosen.thread_blocks and w.to_device >= 0.95 * best for w in ways)


@pytest.mark.parametrize("name", ["h2d", "layerwise"])
def test_without_a_gpu_the_benchmark_says_so(name, capsys):
    import torch

    from dualpath_ray.cli.main import run

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert run(["bench", name]) == 2
    assert "there is no CUDA device here" in capsys.readouterr().err
