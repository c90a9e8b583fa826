"""What every BlockStore does when its device fails: an error that names block and store, and nothing that is kept."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.base.errors import LayoutError, StorageError
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.memory import MemoryBlockStore
from dualpath_ray.storage.object_store import ObjectBlockStore
from dualpath_ray.storage.port import BlockStore, read_verified
from tests.unit.storage.conftest import STORES, ServedAndOwned

A, B = (bytes([i]) * 32 for i in (1, 2))
NAMED = rf"{A.hex()[:16]}|d0"  # the block, or the reader that cannot reach a storage node


def num_held() -> int:
    """File descriptors of this process, and files registered with 3FS."""
    fake = sys.modules.get("hf3fs_fuse")
    return len(os.listdir("/proc/self/fd")) + (len(fake.io.registered) if fake else 0)


def files_of(store: BlockStore) -> BlockStore:
    """The store that has the blocks themselves."""
    return store.owner if isinstance(store, ServedAndOwned) else store


def path_of(store: LocalBlockStore, key: bytes) -> Path:
    return Path(store.name) / key.hex()[:2] / f"{key.hex()}.kv"


def shorten(store: BlockStore, key: bytes, block: np.ndarray) -> None:
    """Leave half of a block behind its name."""
    files, half = files_of(store), len(block) // 2
    if isinstance(files, LocalBlockStore):
        os.truncate(path_of(files, key), half)
    else:
        assert isinstance(files, ObjectBlockStore)
        with files._fs.open_output_stream(files._path(key)) as stream:
            stream.write(block[:half])


def take_away(store: BlockStore) -> None:
    """The device, bucket or storage node is gone; where a directory was there is something that holds no blocks."""
    if isinstance(store, ServedAndOwned):
        store.server.close()
    elif isinstance(store, LocalBlockStore):
        shutil.rmtree(store.name)
        Path(store.name).touch()
    elif isinstance(store, ObjectBlockStore):
        store._fs.delete_dir(store._prefix)
    else:
        assert isinstance(store, MemoryBlockStore)
        store.close()


@pytest.fixture
def written(store, make_block, new_slot, layout):
    """The store with blocks in it, and threads, connections and caches that a first use makes."""
    list(store.scan())
    for key in (A, B):
        store.write(key, make_block(key))
        read_verified(store, key, new_slot(), layout)
    return store


def test_a_device_that_is_gone_is_an_error_that_names_it_and_keeps_nothing(written, make_block, new_slot):
    before = num_held()
    take_away(written)
    for _ in range(3):
        with pytest.raises(StorageError, match=NAMED) as error:
            written.read(A, new_slot())
        assert written.name in str(error.value)
    assert num_held() <= before


@pytest.mark.parametrize("store", ["local", "local, buffered", "served", "usrbio", "nixl_posix"], indirect=True)
def test_a_device_that_is_gone_takes_no_block(written, make_block):
    block, before = make_block(A), num_held()
    take_away(written)
    for _ in range(3):
        with pytest.raises(StorageError, match=NAMED) as error:
            written.write(A, block)
        assert written.name in str(error.value)
    assert num_held() <= before


@pytest.mark.parametrize("store", ["local", "local, buffered", "served", "usrbio"], indirect=True)
def test_a_read_error_of_the_device_is_an_error_that_names_it_and_the_others_are_read(written, new_slot, layout):
    files, before = files_of(written), num_held()
    assert isinstance(files, LocalBlockStore)
    path_of(files, A).unlink()
    path_of(files, A).symlink_to("/proc/self/mem")  # what the kernel answers there is EIO
    for _ in range(3):
        with pytest.raises(StorageError, match=rf"block {A.hex()[:16]} in {files.name}: "):
            written.read(A, new_slot())
    read_verified(written, B, new_slot(), layout)
    assert num_held() <= before


@pytest.mark.parametrize("store", [name for name in STORES if name != "memory"], indirect=True)  # it has no lengths
def test_a_block_cut_short_is_an_error_that_names_it_and_the_others_are_read(written, make_block, new_slot, layout):
    block, before = make_block(A), num_held()
    shorten(written, A, block)
    for _ in range(3):
        with pytest.raises(
            StorageError, match=rf"{A.hex()[:16]} is corrupt: short read in .*: {len(block) // 2} of {len(block)}"
        ):
            written.read(A, new_slot())
    read_verified(written, B, new_slot(), layout)
    assert num_held() <= before


def test_a_slot_off_its_page_is_refused_or_served_right(written, make_block, layout):
    """Only direct I/O asks for pages."""
    block, before = make_block(A), num_held()
    spare = np.zeros(layout.slot_bytes + 8192, np.uint8)
    start = -spare.ctypes.data % 4096 + 1
    slot = spare[start : start + layout.slot_bytes]
    try:
        read_verified(written, A, slot, layout)
    except LayoutError as error:
        assert "page" in str(error) and not spare.any()
    else:
        assert (slot == block).all()
    assert not spare[:start].any() and not spare[start + len(slot) :].any()
    assert num_held() <= before


def test_a_slot_of_another_layout_is_refused_before_a_byte_moves(written, layout):
    before = num_held()
    for size in (layout.slot_bytes - 4096, layout.slot_bytes + 4096):
        slot = np.zeros(size, np.uint8)
        for call in (written.read, written.write):
            with pytest.raises(LayoutError, match=rf"uint8 \[{layout.slot_bytes}\].*\[{size}\]"):
                call(A, slot)
        assert not slot.any()
    assert num_held() <= before
