import errno
import os

import numpy as np
import pytest

from dualpath_ray.base.errors import BlockNotFoundError, CorruptBlockError, LayoutError, StorageError, StoreFullError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import read_verified

A, B = (bytes([i]) * 32 for i in (1, 2))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "blocks"


@pytest.fixture
def store(root, layout):
    return LocalBlockStore(root, layout)


def path_of(root, key):
    return root / key.hex()[:2] / f"{key.hex()}.kv"


@pytest.mark.parametrize("left_bytes", [0, 100, 4096, 8191])
def test_a_truncated_file_is_a_short_read(store, root, make_block, new_slot, left_bytes):
    store.write(A, make_block(A))
    os.truncate(path_of(root, A), left_bytes)
    with pytest.raises(StorageError, match=f"short read.*: {left_bytes} of"):
        store.read(A, new_slot())
    assert list(store.scan()) == []
    with pytest.raises(BlockNotFoundError):
        store.read(A, new_slot())


def test_two_swapped_files_are_found(store, root, make_block, new_slot, layout):
    for key in (A, B):
        store.write(key, make_block(key))
    aside = root / "aside"
    path_of(root, A).rename(aside)
    path_of(root, B).rename(path_of(root, A))
    aside.rename(path_of(root, B))
    for key in (A, B):
        with pytest.raises(CorruptBlockError):
            read_verified(store, key, new_slot(), layout)
    assert list(store.scan()) == []


def test_a_write_that_dies_half_way_leaves_nothing_under_the_key(store, root, make_block, new_slot, monkeypatch):
    store.write(A, make_block(A))

    def die(source, target):
        raise SystemExit  # stands for the process being killed between the bytes and the name

    monkeypatch.setattr(os, "rename", die)
    with pytest.raises(SystemExit):
        store.write(B, make_block(B))
    with pytest.raises(BlockNotFoundError):
        store.read(B, new_slot())
    assert [header.key for header, _ in store.scan()] == [A]
    assert {path.name for path in root.rglob("*") if path.is_file()} == {path_of(root, A).name, ".dualpath-store"}


def test_a_full_disk_is_named_and_leaves_no_rest(store, root, make_block, monkeypatch):
    written = []

    def write_little(fd, buffers, offset):
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(fd)
        return 4096

    monkeypatch.setattr(os, "pwritev", write_little)
    with pytest.raises(StoreFullError, match=f"{root}.*capacity"):
        store.write(A, make_block(A))
    assert written
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_a_file_system_without_direct_io_is_used_through_its_cache(store, make_block, new_slot, layout, monkeypatch):
    real_open = os.open

    def open_without_direct(path, flags, *args, **kwargs):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_without_direct)
    store.write(A, make_block(A))
    read_verified(store, A, new_slot(), layout)


def test_direct_io_into_an_unaligned_slot_is_a_bug_of_the_caller(store, make_block, layout):
    store.write(A, make_block(A))
    spare = np.zeros(layout.slot_bytes + 8192, np.uint8)
    start = -spare.ctypes.data % 4096 + 1
    with pytest.raises(LayoutError, match="page"):
        store.read(A, spare[start : start + layout.slot_bytes])


def test_blocks_of_another_layout_are_left_alone(store, root, make_block):
    other_layout = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=512)
    other = LocalBlockStore(root, other_layout)
    other.write(A, make_block(A, layout=other_layout))
    store.write(B, make_block(B))
    assert [header.key for header, _ in store.scan()] == [B]
    assert [header.key for header, _ in other.scan()] == [A]


def test_files_of_others_are_left_alone(store, root, make_block):
    store.write(A, make_block(A))
    (root / "README").write_text("mine")
    (root / A.hex()[:2] / "notes.txt").write_text("mine")
    list(store.scan())
    assert (root / "README").exists()
    assert (root / A.hex()[:2] / "notes.txt").exists()


def test_last_use_survives_a_restart(store, root, layout, make_block, new_slot):
    for key in (A, B):
        store.write(key, make_block(key))
        os.utime(path_of(root, key), (1000, 1000))
    store.read(A, new_slot())
    times = {header.key: last_used for header, last_used in LocalBlockStore(root, layout).scan()}
    assert times[B] == 1000 < times[A]


def test_check_tells_a_process_that_does_not_see_the_directory(store, root):
    with pytest.raises(StorageError, match=str(root)):
        store.check()
