"""The pool of a node: allocated, mapped, leased and given back."""

import errno
import os
import secrets
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError, LayoutError
from dualpath_ray.base.units import PAGE_BYTES
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import (
    READY,
    SHM_DIR,
    BufferPool,
    Segment,
    pid_namespace,
    segment_bytes,
    segment_creator,
    segment_path,
    sweep,
)

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)
NUM_SLOTS, STAGING_BYTES = 6, 1000


@pytest.fixture
def system() -> Iterator[str]:
    name = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    yield name
    sweep(name)


@pytest.fixture
def segment(system: str) -> Iterator[Segment]:
    made = Segment.create(segment_path(system, "p0"), LAYOUT, NUM_SLOTS, STAGING_BYTES, "node.pe_buffer_bytes")
    yield made
    os.close(made.fd)


def test_every_part_has_a_place_of_its_own(segment):
    assert segment.path.stat().st_size == segment_bytes(LAYOUT, NUM_SLOTS, STAGING_BYTES) == len(segment.bytes)
    assert segment.slots.shape == (NUM_SLOTS, LAYOUT.slot_bytes) and segment.staging.shape == (STAGING_BYTES,)
    assert segment.slots_offset % PAGE_BYTES == 0 == segment.staging_offset % PAGE_BYTES
    segment.slots[:] = 1
    segment.staging[:] = 2
    segment.table["owner"] = b"x"
    assert (segment.slots == 1).all() and (segment.staging == 2).all()
    for slot in range(NUM_SLOTS):
        assert segment.bytes[segment.slot_offset(slot)] == 1
        segment.full_block(slot)[:] = slot
        assert (segment.slots[slot, LAYOUT.header_bytes :][: LAYOUT.full_block_bytes] == slot).all()
        assert segment.full_block(slot).shape == LAYOUT.shape


def test_an_engine_sees_what_the_traffic_manager_wrote(segment):
    engine = Segment.attach(segment.path)
    assert (engine.layout, engine.num_slots, engine.staging_bytes) == (LAYOUT, NUM_SLOTS, STAGING_BYTES)
    assert segment_creator(engine.path) == (pid_namespace(), os.getpid())
    segment.full_block(3)[:] = 9
    assert (engine.full_block(3) == 9).all()
    engine.staging[:] = 4
    assert (segment.staging == 4).all()
    os.close(engine.fd)


def test_a_name_is_taken_once(segment):
    with pytest.raises(FileExistsError):
        Segment.create(segment.path, LAYOUT, 1, 0, "node.pe_buffer_bytes")


def num_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_another_file_is_no_segment(system):
    path, before = segment_path(system, "p0"), num_fds()
    path.write_bytes(b"something else" * 10)
    with pytest.raises(LayoutError, match=f"{path} is no segment of this version"):
        Segment.attach(path)
    assert num_fds() == before


@pytest.mark.parametrize("change_bytes", [-PAGE_BYTES, PAGE_BYTES])
def test_two_ends_that_disagree_on_its_size(segment, change_bytes):
    """As when it was cut, or made by a build that lays it out in another way."""
    size, before = segment.path.stat().st_size, num_fds()
    os.truncate(segment.path, size + change_bytes)
    with pytest.raises(LayoutError, match=f"{segment.path} says that it is {size} bytes, but is {size + change_bytes}"):
        Segment.attach(segment.path)
    assert num_fds() == before


def test_too_small_shared_memory_is_an_error_at_creation(system, monkeypatch):
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    path, before = segment_path(system, "d0"), num_fds()
    with pytest.raises(ConfigError, match=r"^node\.de_buffer_bytes: /dev/shm has .* free, .* needs 64\.0 KiB; make"):
        Segment.create(path, LAYOUT, 7, 0, "node.de_buffer_bytes")
    assert not path.exists() and num_fds() == before


def test_sweep_takes_one_system_only(system):
    for node in ("p0", "d0"):
        segment_path(system, node).touch()
    other = segment_path(f"{system}x", "p0")
    other.touch()
    try:
        assert sorted(sweep(system)) == sorted(segment_path(system, node) for node in ("p0", "d0"))
        assert other.exists() and not list(SHM_DIR.glob(f"dualpath.{system}.*"))
    finally:
        other.unlink()


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_leases_are_conserved(data):
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "p0")
    segment = Segment.create(path, LAYOUT, NUM_SLOTS, 0, "node.pe_buffer_bytes")
    try:
        pool, held = BufferPool(segment), {}
        for number in range(data.draw(st.integers(0, 12))):
            if held and data.draw(st.booleans()):
                owner = data.draw(st.sampled_from(sorted(held)))
                pool.release(held.pop(owner)[1])
            else:
                count = data.draw(st.integers(0, NUM_SLOTS))
                slots = pool.lease(count, f"r{number}", number)
                assert (slots is None) == (count > NUM_SLOTS - sum(len(s) for _, s in held.values()))
                if slots is not None:
                    assert len(slots) == count
                    pool.mark(slots[:1], READY)
                    held[f"r{number}"] = (number, slots)
            live = [(slot, owner, attempt) for owner, (attempt, slots) in held.items() for slot in slots]
            assert pool.leases() == sorted(live)
            assert pool.num_free == NUM_SLOTS - len(live) and pool.num_slots == NUM_SLOTS
        again = BufferPool(segment)  # a restarted traffic manager sees the live leases
        assert again.leases() == pool.leases() and again.num_free == pool.num_free
    finally:
        segment.unlink()
        os.close(segment.fd)


def test_a_long_owner_is_cut(segment):
    pool = BufferPool(segment)
    pool.lease(1, "x" + "ä" * 30, 1)
    assert pool.leases()[0][1] == "x" + "ä" * 19
    assert np.count_nonzero(segment.table["state"]) == 1
