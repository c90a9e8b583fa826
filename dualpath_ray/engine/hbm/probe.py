"""Which way of copying blocks of a size is best here: measured at start, not believed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.memory import address_of
from dualpath_ray.engine.hbm.copy_engine import CopyEngine
from dualpath_ray.engine.hbm.kernels import KernelCopy
from dualpath_ray.engine.hbm.loopback import CnicLoopback, nearest_cnic
from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

THREAD_BLOCKS = (4, 8, 16)
_AS_GOOD = 0.95  # of the best rate: then the way that leaves the multiprocessors to the model is taken
_REPEATS = 5
_IN_A_ROW = 4  # copies that are timed together, as those of layer after layer: the first one's start counts little


@dataclass(frozen=True, slots=True)
class Probed:
    """Bytes per second of a way, to the device and back."""

    way: BlockCopy
    to_device: float
    to_host: float
    thread_blocks: int  # multiprocessors that it takes from the model; 0 for the copy engines


def ways(pool: np.ndarray) -> list[BlockCopy]:
    """What can be tried here, those that take the fewest multiprocessors first. Args: pool: where all host ranges are."""
    found: list[BlockCopy] = []
    makers: list[Callable[[], BlockCopy]] = [
        CopyEngine,
        lambda: CnicLoopback(pool, nearest_cnic()),
        *(partial(KernelCopy, n) for n in THREAD_BLOCKS),
    ]
    for make in makers:
        try:
            found.append(make())
        except Exception:  # not here, or a CuPy that cannot compile, or a NIC that cannot reach the GPU
            continue
    return found


def choose(probed: Sequence[Probed]) -> Probed:
    """The way that takes the fewest multiprocessors among those that reach nearly the best rate to the device. Pure."""
    best = max(p.to_device for p in probed)
    return min((p for p in probed if p.to_device >= _AS_GOOD * best), key=lambda p: (p.thread_blocks, -p.to_device))


def probe(pool: np.ndarray, block_bytes: int, stride_bytes: int, total_bytes: int = 64 << 20) -> list[Probed]:
    """Measure every way on blocks of ``block_bytes``, one of each slot of ``stride_bytes`` of a page-locked pool.

    Only reads the pool to the device and writes the same bytes back. Nothing else may use the pool meanwhile.
    """
    with torch.cuda.stream(torch.cuda.Stream()):  # the copy engines' call takes any stream but the default one
        return _probe(pool, block_bytes, stride_bytes, total_bytes)


def _probe(pool: np.ndarray, block_bytes: int, stride_bytes: int, total_bytes: int) -> list[Probed]:
    base = address_of(pool)
    slots = np.random.default_rng(0).permutation(len(pool) // stride_bytes)
    slots = slots[: max(1, total_bytes // block_bytes)].astype(np.uint64)
    device = torch.empty(len(slots) * block_bytes, dtype=torch.uint8, device="cuda")
    targets = np.arange(len(slots), dtype=np.uint64) * np.uint64(block_bytes) + np.uint64(device.data_ptr())
    found = []
    for way in ways(pool):
        blocks = way.prepare(slots * np.uint64(stride_bytes) + np.uint64(base), targets, block_bytes)
        rates = []
        for move in (way.to_device, way.to_host):
            move(blocks)
            times = sorted(device_s(partial(_several, move, blocks)) for _ in range(_REPEATS))
            rates.append(_IN_A_ROW * blocks.total_bytes / times[_REPEATS // 2])
        try:
            way.check()
        except TransportError:  # a NIC that looked as if it could
            way.end()
            continue
        found.append(Probed(way, rates[0], rates[1], getattr(way, "num_thread_blocks", 0)))
    return found


def _several(move: Callable[[BlockList], None], blocks: BlockList) -> None:
    for _ in range(_IN_A_ROW):
        move(blocks)


def device_s(work: Callable[[], Any]) -> float:
    """Seconds from the first to the last of what ``work()`` puts on the current stream."""
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3
