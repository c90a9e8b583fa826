"""A copy over a NIC: over an emulated one its bytes flow while the schedule says so."""

import os
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.effects import CopyPool, OpDone, Send
from dualpath_ray.traffic.messages import Grant, Granted
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.traffic.nic_queue import CHUNK_S, LEAST_CHUNK_BYTES, NicQueue
from dualpath_ray.transport.port import CopyBatch

RATE, LEAST = 10_000.0, 64
CHUNK = int(RATE * CHUNK_S)
sizes = st.lists(st.integers(1, 300), min_size=1, max_size=10)


@pytest.fixture(scope="module")
def pool():
    layout = KvLayout(num_layers=1, block_tokens=4, bytes_per_token_layer=8)
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(6)}", "p0")
    segment = Segment.create(path, layout, 1, 0, "node.pe_buffer_bytes")
    yield layout, BufferPool(segment)
    segment.unlink()


def node(pool, rate: float | None) -> NodeContext:
    layout, buffer = pool
    cnic = Nic("p0/cnic0", rate, rate)
    return NodeContext("p0", layout, buffer, 0, Nic("p0/snic", None, None), [cnic], least_chunk_bytes=LEAST)


def ranges(nbytes: list[int]) -> CopyBatch:
    sizes = np.array(nbytes, np.int64)
    return CopyBatch(np.cumsum(sizes) - sizes, np.cumsum(sizes) - sizes, sizes)


@settings(max_examples=50)
@given(sizes, st.booleans())
def test_no_byte_is_copied_more_than_a_chunk_ahead_of_its_schedule(pool, nbytes, write):
    context, batch, over = node(pool, RATE), ranges(nbytes), []
    context.transfer("d0", 0, 0, write, batch, lambda: over.append(context.now_s))
    total, copied = batch.total_bytes, 0
    (grant,) = [e.message for e in context.outbox if isinstance(e, Send) and isinstance(e.message, Grant)]
    assert grant.nbytes == total, "the peer's NIC carries the whole"
    context.outbox.clear()
    while True:
        while context.poll_nics():
            pass
        for effect in context.outbox:
            assert isinstance(effect, CopyPool)
            copied += effect.batch.total_bytes
            assert effect.batch.total_bytes <= CHUNK and copied <= context.now_s * RATE + CHUNK + 1e-6
            context.op_done(OpDone(effect.op))
        context.outbox.clear()
        deadline = context.next_deadline_s()
        if deadline is None:
            break
        context.now_s = deadline
    assert copied == total and not over
    context.on_granted(Granted(grant.op))
    assert over == [pytest.approx(total / RATE)], "as long as the whole takes"


@given(sizes)
def test_what_is_not_emulated_stays_whole(pool, nbytes):
    context, batch = node(pool, None), ranges(nbytes)
    context.transfer("d0", 0, 0, True, batch, lambda: None)
    context.poll_nics()
    assert [e.batch for e in context.outbox if isinstance(e, CopyPool)] == [batch]


@pytest.mark.parametrize("driven_here", [True, False])
def test_only_copies_that_leave_the_host_keep_a_link_busy(pool, driven_here):
    context = node(pool, None)
    context.on_host = frozenset({"d0"})
    context.cnics[0].carried_by("eth1", RATE)
    for peer in ("d0", "d1"):
        if driven_here:
            context.transfer(peer, 0, 0, True, ranges([500]), lambda: None)
        else:
            context.on_grant(peer, Grant(1, 0, Direction.OUT, 500))
    context.poll_nics()
    assert context.cnics[0][Direction.OUT].busy_until(0.0) == (500 / RATE, 1000)


@given(st.floats(1, 1e11))
def test_a_chunk_is_what_the_rate_moves_in_its_time_but_no_crumb(rate):
    chunk = NicQueue("p0/cnic0/out", rate).chunk_bytes()
    assert chunk is not None and chunk >= LEAST_CHUNK_BYTES
    assert chunk == LEAST_CHUNK_BYTES or chunk == pytest.approx(rate * CHUNK_S, abs=1)
    assert NicQueue("p0/cnic0/out", None).chunk_bytes() is None
