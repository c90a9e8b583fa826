import os
import threading
import time

import pytest

from dualpath_ray.base.errors import BlockNotFoundError, ConfigError, StorageError, UnendedReadError
from dualpath_ray.base.types import CLIENT_SILENT_S
from dualpath_ray.kv.keys import ROOT
from dualpath_ray.storage.actor import StorageNode
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import read_verified

A, B, C, D = (bytes([i]) * 32 for i in (1, 2, 3, 4))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "blocks"


@pytest.fixture
def start(root, layout):
    def new(capacity_blocks=3, store="local"):
        return StorageNode("s0", store, str(root), layout, capacity_blocks * layout.sealed_bytes)

    return new


@pytest.fixture
def files(root, layout):
    return LocalBlockStore(root, layout)


@pytest.fixture
def write(files, make_block):
    """What a traffic manager does."""

    def go(node, *chain):
        entries = [(key, parent, 0, "t") for key, parent in zip(chain, (ROOT, *chain), strict=False)]
        plan = node.begin_write(entries)
        parents = dict(zip(chain, (ROOT, *chain), strict=False))
        for key in plan.to_write:
            files.write(key, make_block(key, parents[key]))
        node.commit(plan.to_write)
        return plan

    return go


def test_lookup_tells_absent_committed_and_being_written(start, write):
    node = start()
    write(node, A)
    node.begin_write([(B, A, 0, "t")])
    assert node.lookup("c", "r/1", [A, B, C]) == bytes([1, 2, 0])


def test_a_restart_finds_what_was_committed_and_nothing_half_written(
    start, write, root, files, make_block, new_slot, layout
):
    node = start()
    write(node, A, B)
    files.write(C, make_block(C))
    os.truncate(next(root.rglob(f"{C.hex()}.kv")), 4096)
    node = start()
    assert node.lookup("c", "r/1", [A, B, C]) == bytes([1, 1, 0])
    read_verified(files, B, new_slot(), layout)


def test_evicted_files_are_gone_when_the_grant_is_given(start, write, files, new_slot):
    node = start(capacity_blocks=2)
    write(node, A)
    write(node, B)
    assert write(node, C).evict == (A,)
    with pytest.raises(BlockNotFoundError):
        files.read(A, new_slot())
    assert node.status()["num_blocks"] == 2


def test_a_smaller_capacity_after_a_restart_is_kept(start, write, files):
    write(start(), A, B, C)
    node = start(capacity_blocks=1)
    assert node.status()["num_blocks"] == len(list(files.scan())) == 1


def test_pinned_blocks_stay_until_unpinned(start, write):
    node = start(capacity_blocks=1)
    write(node, A)
    node.lookup("c", "r/1", [A])
    assert write(node, B).refused == (B,)
    node.unpin("c", ["r/1"])
    assert write(node, B).evict == (A,)


def test_only_the_leading_run_is_pinned(start, write):
    node = start(capacity_blocks=2)
    write(node, A)
    write(node, C)
    assert node.lookup("c", "r/1", [A, B, C]) == bytes([1, 0, 1])
    assert write(node, D).evict == (C,)


def test_of_suspected_blocks_only_the_bad_ones_lose_their_files(start, write, files, root, new_slot):
    """A reader's word alone deletes nothing: its way to the store may be what is broken."""
    node = start()
    write(node, A, B)
    next(root.rglob(f"{A.hex()}.kv")).write_bytes(b"not a block")
    assert node.suspect([A, B, C]) == [False, True, False]
    assert node.lookup("c", "r/1", [A]) == bytes([0])
    assert node.lookup("c", "r/2", [B]) == bytes([1])
    files.read(B, new_slot())
    with pytest.raises(BlockNotFoundError):
        files.read(A, new_slot())
    assert node.status()["corrupt_blocks"] == 1


class FailingStore(LocalBlockStore):
    """Its device answers no read of these blocks."""

    error: type[Exception] = StorageError
    failing: tuple[bytes, ...] = ()

    def read(self, key, slot):
        if key in self.failing:
            raise self.error("the device does not answer")
        super().read(key, slot)


@pytest.fixture
def failing(start, write, root, monkeypatch):
    """A node with A, B and C whose reads of some fail."""

    def make(error, *keys):
        monkeypatch.setattr(FailingStore, "error", error)
        monkeypatch.setattr(FailingStore, "failing", keys)
        node = start(store=f"{__name__}:FailingStore")
        write(node, A, B, C)
        return node

    return make


def test_a_read_that_does_not_end_costs_no_block_and_ends_the_search(failing, root):
    node = failing(UnendedReadError, B)
    for key in (A, C):
        next(root.rglob(f"{key.hex()}.kv")).write_bytes(b"not a block")
    assert node.suspect([A, B, C]) == [False, True, True]
    assert len(list(root.rglob("*.kv"))) == 2


@pytest.mark.parametrize("error", [StorageError, OSError])
def test_a_block_that_cannot_be_read_while_others_can_is_forgotten(failing, root, error):
    """Else nothing that hits it would ever be stored anew."""
    node = failing(error, B)
    assert node.suspect([A, B]) == [True, False]
    assert node.lookup("c", "r/1", [A, B]) == bytes([1, 0])
    assert len(list(root.rglob("*.kv"))) == 2


@pytest.mark.parametrize("error", [StorageError, OSError])
def test_a_device_that_reads_nothing_costs_no_block(failing, root, error):
    node = failing(error, A, B, C)
    assert node.suspect([A, B]) == [True, True]
    assert node.lookup("c", "r/1", [A, B, C]) == bytes([1, 1, 1])
    assert len(list(root.rglob("*.kv"))) == 3


def test_a_commit_that_the_index_does_not_know_leaves_no_file(start, files, make_block):
    first = start()
    first.begin_write([(A, ROOT, 0, "t")])
    second = start()  # the storage node died between grant and commit
    files.write(A, make_block(A))
    second.commit([A])
    assert list(files.scan()) == []


@pytest.mark.parametrize("end, committed", [("commit", True), ("abort", False), ("clear", False)])
def test_a_wait_ends_with_the_write(start, files, make_block, end, committed):
    node = start()
    node.begin_write([(A, ROOT, 0, "t")])
    files.write(A, make_block(A))
    answers = []
    waiter = threading.Thread(target=lambda: answers.extend(node.await_written([A, B], 30.0)))
    waiter.start()
    time.sleep(0.05)
    assert not answers
    node.clear() if end == "clear" else getattr(node, end)([A])
    waiter.join(10)
    assert answers == [committed, False]
    assert len(list(files.scan())) == committed


def test_a_wait_ends_when_the_time_is_up(start):
    node = start()
    node.begin_write([(A, ROOT, 0, "t")])
    assert node.await_written([A], 0.01) == [False]


def test_pins_of_a_client_that_fell_silent_go(start, write, monkeypatch):
    node = start(capacity_blocks=2)
    write(node, A)
    write(node, B)
    now = time.monotonic()
    node.lookup("dead", "dead-1", [A])
    node.lookup("alive", "alive-1", [B])
    for later in (CLIENT_SILENT_S / 2, CLIENT_SILENT_S + 1):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        assert node.renew("alive") == 0
    assert node.status()["num_pinning_attempts"] == 1
    assert write(node, C).evict == (A,)


def test_many_threads_writing_one_chain_write_each_block_once(start, write, files, new_slot, layout):
    node = start(capacity_blocks=4)
    plans = []
    threads = [threading.Thread(target=lambda: plans.append(write(node, A, B, C, D))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for plan in plans for key in plan.to_write) == [A, B, C, D]
    assert node.await_written([A, B, C, D], 1.0) == [True] * 4


def test_files_and_index_agree_after_a_storm_of_evictions(start, write, files, new_slot, layout):
    node = start(capacity_blocks=3)
    keys = [bytes([i]) * 32 for i in range(10, 20)]

    def work(shift):
        for i in range(15):
            write(node, keys[(i * shift) % len(keys)])

    threads = [threading.Thread(target=work, args=(shift,)) for shift in (1, 3, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {header.key for header, _ in files.scan()}
    assert {key for key in keys if node.lookup("c", "r", [key]) == bytes([1])} == found
    assert len(found) <= 3


def test_ended_trajectories_and_old_weights_go_early(start, write):
    node = start(capacity_blocks=2)
    write(node, A)
    node.begin_write([(B, ROOT, 0, "over")])
    node.commit([B])
    node.end_trajectories(["over"])
    node.set_weights_version(0)
    assert write(node, C).evict == (B,)
    assert node.ping() == "s0"


def test_a_capacity_below_one_block_is_refused(start):
    with pytest.raises(ConfigError, match="capacity"):
        start(capacity_blocks=0)
