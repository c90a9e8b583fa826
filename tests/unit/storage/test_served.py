"""A store over a socket: whose it is, what is told to whom, and what becomes of a reader when its storage node goes."""

import os
import socket
import threading
import time

import numpy as np
import pytest

from dualpath_ray.base.errors import BlockNotFoundError, LayoutError, StorageError, StoreFullError, UnendedReadError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage import wire
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import read_verified
from dualpath_ray.storage.served import ServedBlockStore
from dualpath_ray.storage.server import BlockServer
from dualpath_ray.storage.sharded import Shard, open_shards
from dualpath_ray.storage.shards import shard_of

A, B = (bytes([i]) * 32 for i in (1, 2))


@pytest.fixture
def owner(tmp_path, layout):
    owner = LocalBlockStore(tmp_path / "store", layout)
    list(owner.scan())
    return owner


@pytest.fixture
def server(owner, layout):
    server = BlockServer(owner, layout, "127.0.0.1")
    yield server
    server.close()


def test_a_reader_of_another_layout_is_refused_and_both_ends_are_named(server):
    other = ServedBlockStore(server.at, KvLayout(2, 4, 512), "d0")
    with pytest.raises(LayoutError, match=r"d0 reads blocks \(2, 4, 512\).*127\.0\.0\.1.*\(3, 4, 512\)"):
        other.check()


def test_a_stranger_is_told_nothing(server, owner, make_block, layout):
    owner.write(A, make_block(A))
    at = wire.ServedAt(server.at.host, server.at.port, bytes(wire.TOKEN_BYTES))
    with pytest.raises(StorageError, match="p0 cannot reach the storage node"):
        ServedBlockStore(at, layout, "p0").check()
    with socket.create_connection((at.host, at.port), 5) as stranger:
        stranger.sendall(wire.hello(bytes(wire.TOKEN_BYTES), layout))
        stranger.settimeout(5)
        assert stranger.recv(100) == b""


def test_a_full_disk_is_what_the_writer_hears_of(server, owner, make_block, layout, monkeypatch):
    def full(key, slot):
        raise StoreFullError("storage.path: no space left")

    monkeypatch.setattr(owner, "write", full)
    store = ServedBlockStore(server.at, layout, "d0")
    with pytest.raises(StoreFullError, match="no space left"):
        store.write(A, make_block(A))
    store.close()


def test_a_storage_node_that_has_gone_is_an_error_and_no_hang(server, make_block, new_slot, layout):
    store = ServedBlockStore(server.at, layout, "d0")
    store.write(A, make_block(A))
    server.close()
    with pytest.raises(StorageError, match="d0 cannot reach the storage node at 127"):
        store.read(A, new_slot())
    store.close()


def test_a_connection_that_was_cut_is_made_anew(server, make_block, new_slot, layout):
    store = ServedBlockStore(server.at, layout, "d0")
    store.write(A, make_block(A))
    for connection in store._open:
        connection.shutdown(socket.SHUT_RDWR)
    read_verified(store, A, new_slot(), layout)
    store.close()


def test_the_memory_of_a_read_that_did_not_end_serves_nobody_else(
    server, owner, make_block, new_slot, layout, monkeypatch
):
    for key in (A, B):
        owner.write(key, make_block(key))
    real_read, used = owner.read, []

    def read(key, slot):
        used.append(slot)
        if key == A:
            raise UnendedReadError("cannot read block: it did not end within 300 s")
        real_read(key, slot)

    monkeypatch.setattr(owner, "read", read)
    store = ServedBlockStore(server.at, layout, "d0")
    with pytest.raises(StorageError, match="did not end within 300 s") as error:
        store.read(A, new_slot())
    assert not isinstance(error.value, UnendedReadError)  # nothing writes to the reader's own slot
    read_verified(store, B, new_slot(), layout)
    assert not np.shares_memory(*used)
    store.close()


def test_a_writer_that_dies_half_way_leaves_no_block_and_no_connection(server, owner, layout):
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_connection((server.at.host, server.at.port), 5) as writer:
        writer.sendall(wire.hello(server.at.token, layout))
        assert wire.ANSWER.unpack(writer.recv(wire.ANSWER.size)) == (wire.OK, 0)
        writer.sendall(wire.REQUEST.pack(wire.WRITE, A) + b"x" * (layout.slot_bytes // 2))
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before and list(owner.scan()) == []


def test_readers_that_are_refused_keep_no_connection(server):
    before = len(os.listdir("/proc/self/fd"))
    others = [ServedBlockStore(server.at, KvLayout(2, 4, 512), f"d{i}") for i in range(4)]
    for other in others:
        with pytest.raises(LayoutError):
            other.check()
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


def test_half_an_answer_is_an_error(layout, new_slot):
    """A storage node that dies in the middle of a block."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_half():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(wire.ANSWER.pack(wire.OK, 0))
                connection.recv(1000)
                connection.sendall(wire.ANSWER.pack(wire.OK, layout.slot_bytes) + b"x" * 100)

    threading.Thread(target=answer_half, daemon=True).start()
    at = wire.ServedAt("127.0.0.1", listener.getsockname()[1], bytes(wire.TOKEN_BYTES))
    with pytest.raises(StorageError, match="closed after 100 of"):
        ServedBlockStore(at, layout, "d0").read(A, new_slot())
    listener.close()


@pytest.mark.parametrize("access", ["auto", "files", "network"])
@pytest.mark.parametrize("sees", ["the same", "nothing", "another"])
def test_files_are_used_where_they_are_the_very_ones(
    access, sees, owner, server, tmp_path, make_block, new_slot, layout
):
    owner.write(A, make_block(A))
    root = tmp_path / ("store" if sees == "the same" else "elsewhere")
    if sees == "another":
        list(LocalBlockStore(root, layout).scan())
    store = open_shards("local", str(root), layout, [Shard(owner.identity(), server.at)], access, "p0")
    over_network = access == "network" or (access == "auto" and sees != "the same")
    assert store.name.startswith("storage node" if over_network else str(root))
    if over_network or sees == "the same":
        store.check()
        read_verified(store, A, new_slot(), layout)
    else:
        with pytest.raises(BlockNotFoundError):
            store.read(A, new_slot())
    store.close()


def test_each_shard_is_asked_for_its_own(tmp_path, layout, make_block, new_slot):
    owners = [LocalBlockStore(tmp_path / f"shard{i}", layout) for i in range(2)]
    for owner in owners:
        list(owner.scan())
    servers = [BlockServer(owner, layout, "127.0.0.1") for owner in owners]
    shards = [Shard(o.identity(), s.at) for o, s in zip(owners, servers, strict=True)]
    store = open_shards("local", str(tmp_path / "nowhere"), layout, shards, "auto", "d0")
    keys = [np.random.default_rng(i).bytes(32) for i in range(8)]
    for key in keys:
        store.write(key, make_block(key))
    for index, owner in enumerate(owners):
        assert {header.key for header, _ in owner.scan()} == {key for key in keys if shard_of(key, 2) == index}
    store.close()
    for server in servers:
        server.close()
