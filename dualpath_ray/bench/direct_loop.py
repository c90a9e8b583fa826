"""The simplest loop of direct reads: what a disk gives to whoever reads blocks of one large file into slots."""

import errno
import os
import queue
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.rates import Sample, timed
from dualpath_ray.cluster.plan import MOST_IO_DEPTH

_DEPTHS = tuple(2**n for n in range(MOST_IO_DEPTH.bit_length()))  # as deep as the stores that are held against it
_PASSES = 3  # of each depth, of which the median counts: one pass may meet a busy moment


class DirectReadLoop:
    """No names, no checksums, no index: threads that each read the next block until none is left.

    The slots are those that the other ways read into, taken in turn as they take them. Direct I/O is up to twice as fast
    into memory whose pages happen to lie together, so with slots of its own the loop would measure those.
    """

    def __init__(self, folder: Path, free: "queue.SimpleQueue[np.ndarray]", num_blocks: int) -> None:
        """Write the file. Args: free: the slots, uint8 [slot_bytes] on pages, of which one is a block's bytes.

        Raises: ConfigError when ``folder`` takes no direct I/O or has no room.
        """
        self._free, self._num_blocks = free, num_blocks
        slot = free.get()
        self._block_bytes = len(slot)
        self._fd = _write(folder, slot, num_blocks)
        free.put(slot)
        self._depth = max(_DEPTHS, key=self._median_rate)

    def read(self) -> Sample:
        """All blocks once, with as many threads as serve it best."""
        return self._read(self._depth)

    def close(self) -> None:
        os.close(self._fd)

    def _median_rate(self, depth: int) -> float:
        return statistics.median(self._read(depth).bytes_per_s for _ in range(_PASSES))

    def _read(self, depth: int) -> Sample:
        indices = iter(range(self._num_blocks))  # one for all threads: none is left behind with a share of its own

        def read(_: int) -> None:
            for index in indices:
                slot = self._free.get()
                os.preadv(self._fd, [slot.data], index * self._block_bytes)
                self._free.put(slot)

        def all_of_it() -> None:
            with ThreadPoolExecutor(depth) as pool:
                list(pool.map(read, range(depth)))

        return timed(self._num_blocks * self._block_bytes, all_of_it)


def _write(folder: Path, slot: np.ndarray, num_blocks: int) -> int:
    """A file of ``num_blocks`` times the bytes of ``slot``, open for direct reads."""
    fd = -1
    try:
        fd = os.open(folder / "loop", os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC)
        for index in range(num_blocks):
            if os.pwritev(fd, [slot.data], index * len(slot)) < len(slot):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        what = "takes no direct I/O" if error.errno in (errno.EINVAL, errno.EOPNOTSUPP) else "cannot be written"
        raise ConfigError(
            f"--path: {folder} {what} ({error.strerror}); name a directory on a disk with room, or make --total smaller"
        ) from error
    return fd
