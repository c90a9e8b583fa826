"""What is particular to an adapter: what it needs, and that it goes the way it is named for."""

import os

import pytest

from dualpath_ray.base.errors import ConfigError, StorageError, UnendedReadError
from dualpath_ray.base.nixl_agent import NixlUnendedError
from dualpath_ray.storage import nixl_io
from dualpath_ray.storage.file_io import MOST_UNENDED
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.nixl_io import NixlIo
from dualpath_ray.storage.root import child, shard_root
from dualpath_ray.storage.usrbio import UsrbioIo
from tests.unit.storage.fake_3fs import Fake3fs

A, B = (bytes([i]) * 32 for i in (1, 2))


def num_open(store):
    """Files of the store that this process has open: others come and go with NIXL agents."""
    return sum(os.path.realpath(f"/proc/self/fd/{fd}").startswith(store.name) for fd in os.listdir("/proc/self/fd"))


def test_3fs_reads_and_writes_pool_slots_through_rings(tmp_path, layout, pool, make_block, monkeypatch):
    fake = Fake3fs(tmp_path)
    fake.install(monkeypatch)
    store = open_store("usrbio", str(tmp_path / "store"), layout)
    store.attach(pool.memory, pool.path)
    block = make_block(A)
    slot = pool.slot()
    slot[:] = block
    store.write(A, slot)
    assert fake.num_operations == 1
    other = pool.slot()
    store.read(A, other)
    assert fake.num_operations == 2 and (other == block).all() and not fake.registered
    store.read(A, block)  # not of the pool: through the mount
    assert fake.num_operations == 2


@pytest.fixture
def stuck_3fs(tmp_path, layout, pool, monkeypatch):
    fake = Fake3fs(tmp_path)
    fake.install(monkeypatch)
    store = LocalBlockStore(tmp_path / "store", layout, io=UsrbioIo(str(tmp_path), limit_s=0.01))
    store.attach(pool.memory, pool.path)
    return fake, store


def test_a_3fs_read_that_does_not_end_names_block_store_and_limit_and_may_come_late(stuck_3fs, pool, make_block):
    """What comes late goes where it was sent: into that slot and no other, from that file and no other."""
    fake, store = stuck_3fs
    block, other = make_block(A), make_block(B)
    for key, sealed in ((A, block), (B, other)):
        store.write(key, sealed)
    given_up, next_slot = pool.slot(), pool.slot()
    fake.stuck = True
    expected = rf"cannot read block {A.hex()[:16]} in {store.name}: 3FS read did not end within 0\.01 s"
    with pytest.raises(UnendedReadError, match=expected):
        store.read(A, given_up)
    fake.stuck = False
    store.read(B, next_slot)
    fake.end_late()
    assert (next_slot == other).all() and (given_up == block).all()
    assert len(fake.registered) == 1  # the file of the read that was given up
    store.close()


def test_a_3fs_write_that_does_not_end_leaves_no_block(stuck_3fs, pool, make_block):
    fake, store = stuck_3fs
    slot = pool.slot()
    slot[:] = make_block(A)
    fake.stuck = True
    with pytest.raises(StorageError, match=rf"cannot write block {A.hex()[:16]} in {store.name}: .* within") as error:
        store.write(A, slot)
    assert not isinstance(error.value, UnendedReadError)  # nothing writes to the slot
    fake.stuck = False
    fake.end_late()
    assert list(store.scan()) == []


def give_up_all_that_a_stuck_store_may_keep(store, pool):
    for _ in range(MOST_UNENDED):
        with pytest.raises(UnendedReadError):
            store.read(A, pool.slot())


def check_that_it_refuses_at_once_and_keeps_nothing_more(store, pool, make_block):
    block = make_block(B)
    for call in (lambda: store.read(A, pool.slot()), lambda: store.write(B, block)):
        with pytest.raises(StorageError, match=f"{MOST_UNENDED} operations of this store have not ended") as error:
            call()
        assert not isinstance(error.value, UnendedReadError)
    assert num_open(store) == MOST_UNENDED


def test_a_3fs_that_answers_nothing_gets_no_more_to_do(stuck_3fs, pool, make_block):
    fake, store = stuck_3fs
    store.write(A, make_block(A))
    fake.stuck = True
    give_up_all_that_a_stuck_store_may_keep(store, pool)
    check_that_it_refuses_at_once_and_keeps_nothing_more(store, pool, make_block)
    assert len(fake.late) == len(fake.registered) == MOST_UNENDED


def test_a_nixl_store_that_answers_nothing_gets_no_more_to_do(tmp_path, layout, pool, make_block, monkeypatch):
    pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    store = LocalBlockStore(tmp_path / "store", layout, io=NixlIo("POSIX"))
    store.attach(pool.memory, pool.path)
    store.write(A, make_block(A))

    def never_ends(*transfer):
        raise NixlUnendedError("the transfer did not end")

    with monkeypatch.context() as patched:
        patched.setattr(nixl_io, "run_transfer", never_ends)
        give_up_all_that_a_stuck_store_may_keep(store, pool)
    check_that_it_refuses_at_once_and_keeps_nothing_more(store, pool, make_block)
    store.close()


def test_a_nixl_read_that_does_not_end_keeps_its_memory_and_file(tmp_path, layout, pool, make_block):
    pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    store = LocalBlockStore(tmp_path / "store", layout, io=NixlIo("POSIX", limit_s=-1.0))  # no wait at all
    LocalBlockStore(tmp_path / "store", layout).write(A, make_block(A))
    store.attach(pool.memory, pool.path)
    slot = pool.slot()
    expected = (
        rf"cannot read block {A.hex()[:16]} in {store.name}: NIXL POSIX read: the transfer did not end within -1 s"
    )
    with pytest.raises(UnendedReadError, match=expected):
        store.read(A, slot)
    assert num_open(store) == 1
    store.close()


def test_a_nixl_read_that_the_plugin_refuses_has_ended_and_keeps_nothing(
    tmp_path, layout, pool, make_block, monkeypatch
):
    pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    store = LocalBlockStore(tmp_path / "store", layout, io=NixlIo("POSIX"))
    store.attach(pool.memory, pool.path)
    store.write(A, make_block(A))
    real_open = os.open
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda path, flags, *mode: real_open(path, flags | os.O_WRONLY, *mode))
        for _ in range(3):
            with pytest.raises(StorageError, match=rf"cannot read block {A.hex()[:16]} .* could not read: ") as error:
                store.read(A, pool.slot())
            assert not isinstance(error.value, UnendedReadError)
    assert num_open(store) == 0
    store.read(A, pool.slot())
    store.close()


def test_3fs_needs_its_binding_and_a_mount(tmp_path, layout, monkeypatch):
    with pytest.raises(ConfigError, match=r"storage\.store: usrbio needs 3FS's Python package"):
        open_store("usrbio", str(tmp_path), layout)
    Fake3fs(tmp_path / "mount").install(monkeypatch)
    with pytest.raises(
        ConfigError, match=rf"storage\.store: usrbio needs a directory on a mounted 3FS, and {tmp_path}"
    ):
        open_store("usrbio", str(tmp_path), layout)


def test_a_missing_plugin_is_one_sentence():
    with pytest.raises(ConfigError, match=r"storage\.store: nixl_pigeons cannot be used: .*\S$") as error:
        NixlIo("PIGEONS")
    assert "\n" not in str(error.value)


def test_an_address_that_is_none_is_one_sentence(layout):
    with pytest.raises(ConfigError, match=r"storage\.path: s4://bucket is no address of an object store"):
        open_store("s3", "s4://bucket", layout)


def test_an_object_store_that_is_not_there_is_said_to_be_so(layout, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    address = "s3://b/store?scheme=http&endpoint_override=127.0.0.1:1&region=any"
    store = open_store("s3", address, layout)
    with pytest.raises(StorageError, match="s3://b/store") as error:
        store.check()
    assert "\n" not in str(error.value)


def test_places_within_a_root():
    assert child("/data/kv", "basic") == "/data/kv/basic"
    assert child("s3://b/kv?region=x", "basic") == "s3://b/kv/basic?region=x"
    assert shard_root("s3://b/kv?region=x", 1, 2) == "s3://b/kv/shard1?region=x"
    assert shard_root("/data/kv", 0, 1) == "/data/kv"
