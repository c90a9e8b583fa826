"""The loop that a store's reads are held against, and what is said where a disk cannot be measured."""

import errno
import mmap
import os
import queue
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench import storage
from dualpath_ray.bench.direct_loop import DirectReadLoop

_SLOT_BYTES, _NUM_SLOTS, _NUM_BLOCKS = 8192, 16, 20


@pytest.fixture
def free():
    slots: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    for number, slot in enumerate(
        np.frombuffer(mmap.mmap(-1, _SLOT_BYTES * _NUM_SLOTS), np.uint8).reshape(_NUM_SLOTS, -1)
    ):
        slot[:] = number + 1
        slots.put(slot)
    return slots


def test_it_reads_every_byte_into_the_slots_and_gives_them_back(tmp_path, free):
    loop = DirectReadLoop(tmp_path, free, _NUM_BLOCKS)
    for _ in range(_NUM_SLOTS):
        slot = free.get()
        slot[:] = 0
        free.put(slot)
    sample = loop.read()
    loop.close()
    assert sample.nbytes == _SLOT_BYTES * _NUM_BLOCKS and sample.seconds > 0
    slots = [free.get_nowait() for _ in range(_NUM_SLOTS)]
    assert free.empty() and all((slot == 1).all() for slot in slots)  # the first slot's bytes, in each block


@pytest.mark.parametrize("refused", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_direct_io_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, refused):
    real_open, before = os.open, len(os.listdir("/proc/self/fd"))

    def open_without_direct(path, flags, *args, **kwargs):
        if flags & os.O_DIRECT:
            raise OSError(refused, os.strerror(refused))
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_without_direct)
    with pytest.raises(ConfigError, match=rf"^--path: {tmp_path}/\S+ takes no direct I/O \(.*\); name a directory"):
        storage.run([1 << 20], 1 << 20, 1, tmp_path / "disk", tmp_path / "out", lambda line: None)
    assert not list((tmp_path / "disk").iterdir()) and len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^--path: cannot make the directory /proc/none/\S+ \(.*\); name another one"
    ):
        storage.run([1 << 20], 1 << 20, 1, Path("/proc/none"), tmp_path / "out", lambda line: None)
