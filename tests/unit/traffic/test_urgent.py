"""A request whose deadline nears: what is left of its KV goes on in the lane of urgent KV, on both NICs and at both ends."""

import os
import secrets

import numpy as np
import pytest

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.fabric import CnicLanes, SnicLanes
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.effects import CopyPool, FromEngine, OpDone, ReadBlock, Send, Tick
from dualpath_ray.traffic.messages import Grant, OpenSink
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.transport.port import CopyBatch

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)
KEYS = [bytes([i]) * 32 for i in range(8)]
RATE = 1e6
URGENT, KV = TrafficClass.KV_URGENT, TrafficClass.KV_CACHE


@pytest.fixture
def context():
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "d0")
    segment = Segment.create(path, LAYOUT, 16, 0, "node.de_buffer_bytes")
    snic = Nic("d0/snic", RATE, RATE, lanes=SnicLanes().lanes)
    cnic = Nic("d0/cnic0", RATE, RATE, lanes=CnicLanes().lanes)
    yield NodeContext("d0", LAYOUT, BufferPool(segment), segment.slots_offset, snic, [cnic], least_chunk_bytes=10_000)
    segment.unlink()
    os.close(segment.fd)


def batch(nbytes):
    return CopyBatch(np.array([0]), np.array([0]), np.array([nbytes]))


def run_all(context, until_s=100.0):
    """Let time pass, copies being done at once; returns the classes of the copies by when they were issued."""
    copies = []
    while True:
        while context.poll_nics():
            pass
        effects, context.outbox = context.outbox, []
        for effect in effects:
            if isinstance(effect, CopyPool):
                copies.append((context.now_s, effect.traffic_class))
                context.op_done(OpDone(effect.op))
        at = context.next_deadline_s()
        if at is None or at > until_s:
            return copies
        context.now_s = max(context.now_s, at)


def test_what_is_late_already_goes_ahead_at_once(context):
    over = []
    context.wire(context.cnics[0], Direction.IN, 500_000, on_finish=lambda: over.append("other"))
    context.wire(context.cnics[0], Direction.IN, 100_000, on_finish=lambda: over.append("late"), urgent_at_s=-1.0)
    run_all(context)
    assert over == ["late", "other"]
    counters = context.cnics[0][Direction.IN].counters
    assert counters.bytes_by_class == {URGENT: 100_000, KV: 500_000} and counters.promoted == 0


def test_what_waits_is_promoted_when_its_time_comes(context):
    over = []
    for name, at in (("first", None), ("second", None), ("urgent", 0.25)):
        note = lambda name=name: over.append((name, round(context.now_s, 2)))  # noqa: E731
        context.wire(context.cnics[0], Direction.IN, 500_000, on_finish=note, urgent_at_s=at)
    run_all(context)
    assert over == [("urgent", 0.75), ("first", 1.0), ("second", 1.5)]
    assert context.cnics[0][Direction.IN].counters.promoted == 1


def test_what_is_through_before_its_time_is_not_touched(context):
    context.wire(context.cnics[0], Direction.IN, 1000, urgent_at_s=50.0)
    run_all(context)
    assert context.cnics[0][Direction.IN].counters.bytes_by_class == {KV: 1000}
    assert context.next_deadline_s() is None, "nothing is left to wait for"


def test_a_copy_is_urgent_at_both_ends_and_its_later_chunks_too(context):
    context.now_s = 1.0
    context.transfer("p0", 0, 0, False, batch(100_000), lambda: None, urgent_at_s=1.035)
    (grant,) = [e.message for e in context.outbox if isinstance(e, Send)]
    assert grant.nbytes == 100_000 and grant.urgent_in_s == pytest.approx(0.035)
    copies = run_all(context)
    assert len(copies) == 10
    assert [traffic_class for _, traffic_class in copies] == [KV if at < 1.035 else URGENT for at, _ in copies]
    assert {traffic_class for _, traffic_class in copies} == {KV, URGENT}


def test_the_other_end_promotes_it_too(context):
    context.on_grant("p0", Grant(1, 0, Direction.OUT, 500_000))
    context.on_grant("p1", Grant(2, 0, Direction.OUT, 500_000, urgent_in_s=0.1))
    run_all(context)
    assert context.cnics[0][Direction.OUT].counters.bytes_by_class == {KV: 500_000, URGENT: 500_000}


def test_reads_of_an_urgent_request_overtake_those_that_came_before(context):
    core = TrafficCore(context, [], 1, 0.0)
    effects, now = [], 0.0
    for name, keys, urgent_at_s in (("r1", KEYS[:4], None), ("r2", KEYS[4:], -1.0)):
        message = OpenSink(name, 1, 1, 0, 5 * LAYOUT.block_tokens, "de", keys, [False] * 4, "p0", urgent_at_s)
        effects += core.handle(FromEngine(message), 0.0)
    while (at := context.next_deadline_s()) is not None:
        now = max(now, at)
        effects += core.handle(Tick(), now)
    order = [effect.key for effect in effects if isinstance(effect, ReadBlock)]
    urgent = [key in KEYS[4:] for key in order]
    assert urgent.index(True) <= 1 and sum(urgent[:5]) == 4, "all but the one on the wire wait for them"


def test_a_block_that_another_request_reads_already_is_hurried_too(context):
    """A shared prefix is read once: by the request that asked first, in the time of the one that cannot wait."""
    core = TrafficCore(context, [], 1, 0.0)
    for name, keys, urgent_at_s in (("r1", KEYS[:4], None), ("r2", KEYS[4:], None), ("r3", KEYS[6:], -1.0)):
        message = OpenSink(name, 1, 1, 0, 5 * LAYOUT.block_tokens, "de", keys, [False] * len(keys), "p0", urgent_at_s)
        core.handle(FromEngine(message), 0.0)
    assert core.reads.shared_blocks == 2
    while (at := context.next_deadline_s()) is not None:
        core.handle(Tick(), at)
    counters = context.snic[Direction.IN].counters
    assert counters.promoted == 2
    assert counters.bytes_by_class == {KV: 6 * LAYOUT.sealed_bytes, URGENT: 2 * LAYOUT.sealed_bytes}
