"""What is particular to an adapter: what it needs, and that it goes the way it is named for."""

import pytest

from dualpath_ray.base.errors import ConfigError, StorageError
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.nixl_io import NixlIo
from dualpath_ray.storage.root import child, shard_root
from tests.unit.storage.fake_3fs import Fake3fs

A = bytes([1]) * 32


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
