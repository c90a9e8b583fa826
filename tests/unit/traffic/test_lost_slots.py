"""A read that did not end: its slot is leased for good, counted and told; nobody is given it, and nobody waits for it."""

import os
import secrets

import pytest

from dualpath_ray.base.errors import StorageError, UnendedReadError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.effects import Fail, FromEngine, OpDone, ReadBlock
from dualpath_ray.traffic.messages import OpenSink
from dualpath_ray.traffic.nic import Nic

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)
NUM_SLOTS = 4
KEYS = [bytes([i]) * 32 for i in range(NUM_SLOTS)]


@pytest.fixture
def segment():
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "p0")
    made = Segment.create(path, LAYOUT, NUM_SLOTS, 0, "node.pe_buffer_bytes")
    yield made
    made.unlink()
    os.close(made.fd)


@pytest.fixture
def core(segment):
    snic, cnic = (Nic(f"p0/{name}", None, None) for name in ("snic", "cnic0"))
    context = NodeContext("p0", LAYOUT, BufferPool(segment), segment.slots_offset, snic, [cnic])
    return TrafficCore(context, [], 1, 0.0)


def read(core, keys, error):
    """Ask for blocks, answer their reads with ``error``, let them go. Returns: the slots they were read into."""
    core.context.outbox = []
    assert core.reads.acquire(keys, [False] * len(keys), "r0", 1, lambda blocks, nbytes: core.reads.release(blocks))
    while core.context.poll_nics():
        pass
    reads = [effect for effect in core.context.outbox if isinstance(effect, ReadBlock)]
    for effect in reads:
        core.handle(OpDone(effect.op, None, error), 0.0)
    return [effect.slot for effect in reads]


def test_its_slot_is_given_to_nobody_and_stays_leased_over_a_restart(core, segment):
    lost = read(core, KEYS[:1], UnendedReadError("cannot read block 00 in x: it did not end within 300 s"))
    after = [read(core, [key], None)[0] for key in KEYS * 2]
    assert not set(lost) & set(after)
    status = core.status(0.0)
    assert (status["free_slots"], status["lost_slots"], status["num_slots"]) == (NUM_SLOTS - 1, 1, NUM_SLOTS)
    assert status["load_failures"] == 1
    restarted = BufferPool(segment)
    assert restarted.leases() == [(lost[0], "r0", 1)] and restarted.num_lost == 1
    assert restarted.lease(NUM_SLOTS, "r1", 1) is None


def test_of_a_plain_failure_the_slot_is_free_again(core):
    read(core, KEYS, StorageError("input/output error"))
    assert core.context.pool.num_free == NUM_SLOTS and core.status(0.0)["lost_slots"] == 0


def test_a_request_that_will_never_find_room_ends_the_system_and_does_not_wait(core):
    read(core, KEYS[:2], UnendedReadError("it did not end"))
    prompt_tokens = 3 * LAYOUT.block_tokens
    effects = core.handle(FromEngine(OpenSink("r1", 1, 1, 0, prompt_tokens, "de", KEYS[:2], [False] * 2, "p1")), 0.0)
    (failure,) = [effect.error for effect in effects if isinstance(effect, Fail)]
    assert "p0 needs 3 slots" in str(failure) and "of 4 it has lost 2" in str(failure)
