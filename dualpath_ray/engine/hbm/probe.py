"""Which way of copying blocks of a size is best here: measured at start, not believed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from dualpath_ray.base.memory import address_of
from dualpath_ray.engine.hbm.copy_engine import CopyEngine
from dualpath_ray.engine.hbm.kernels import KernelCopy
from dualpath_ray.engine.hbm.port import BlockCopy, BlockList

MakeWay = Callable[[np.ndarray], BlockCopy]
"""From the pool where all host ranges are, uint8 [bytes], to a way of copying."""

_log = logging.getLogger(__name__)
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


def ways(pool: np.ndarray, loopback: MakeWay | None = None) -> list[BlockCopy]:
    """What can be tried here, those that take the fewest multiprocessors first.

    Args: pool: where all host ranges are; loopback: makes a compute NIC's way, which is to be tried too.
    """
    found: list[BlockCopy] = []
    makers: list[Callable[[], BlockCopy]] = [CopyEngine, *(partial(KernelCopy, n) for n in THREAD_BLOCKS)]
    if loopback is not None:
        makers.insert(1, partial(loopback, pool))
    for make in makers:
        try:
            found.append(make())
        except ImportError:  # not here
            continue
        except Exception as error:  # a CuPy that cannot compile, a NIC that NIXL cannot use
            _log.warning("a way of copying cannot be tried: %s", error)
    return found


def choose(probed: Sequence[Probed]) -> Probed:
    """The way that takes the fewest multiprocessors among those that reach nearly the best rate to the device. Pure."""
    best = max(p.to_device for p in probed)
    return min((p for p in probed if p.to_device >= _AS_GOOD * best), key=lambda p: (p.thread_blocks, -p.to_device))


def probe(
    pool: np.ndarray, block_bytes: int, stride_bytes: int, total_bytes: int = 64 << 20, loopback: MakeWay | None = None
) -> list[Probed]:
    """Measure every way on blocks of ``block_bytes``, one of each slot of ``stride_bytes`` of a page-locked pool.

    Only reads the pool to the device and writes the same bytes back. Nothing else may use the pool meanwhile.
    """
    base = address_of(pool)
    slots = np.random.default_rng(0).permutation(len(pool) // stride_bytes)
    slots = slots[: max(1, total_bytes // block_bytes)].astype(np.uint64)
    device = torch.empty(len(slots) * block_bytes, dtype=torch.uint8, device="cuda")
    targets = np.arange(len(slots), dtype=np.uint64) * np.uint64(block_bytes) + np.uint64(device.data_ptr())
    host = slots * np.uint64(stride_bytes) + np.uint64(base)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # the copy engines' call takes any stream but the default one
        found = (measured(way, host, targets, block_bytes) for way in ways(pool, loopback))
        return [each for each in found if each is not None]


def measured(way: BlockCopy, host: np.ndarray, device: np.ndarray, nbytes: int) -> Probed | None:
    """A way's rates. None, and a warning, when it fails."""
    rates = []
    try:
        blocks = way.prepare(host, device, nbytes)
        for move in (way.to_device, way.to_host):
            move(blocks)
            times = sorted(device_s(partial(_several, move, blocks)) for _ in range(_REPEATS))
            rates.append(_IN_A_ROW * blocks.total_bytes / times[_REPEATS // 2])
            way.check()
    except Exception as error:  # of NIXL, of the driver
        _log.warning("%s cannot be used: %s", way.name, error)
        way.end()
        return None
    return Probed(way, rates[0], rates[1], getattr(way, "num_thread_blocks", 0))


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
