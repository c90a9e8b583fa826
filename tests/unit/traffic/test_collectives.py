"""An engine's collectives at its traffic manager: both directions of its CNIC, in the lane of model execution."""

import os
import secrets

import pytest

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.effects import Send
from dualpath_ray.traffic.messages import Collective, CollectiveDone, Grant
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.traffic.nic_queue import AHEAD_S

RATE = 1e6


@pytest.fixture
def context():
    layout = KvLayout(num_layers=1, block_tokens=4, bytes_per_token_layer=8)
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(6)}", "d0")
    segment = Segment.create(path, layout, 1, 0, "node.de_buffer_bytes")
    cnics = [Nic(f"d0/cnic{i}", RATE, RATE, lanes=CnicLanes().lanes) for i in range(2)]
    yield NodeContext("d0", layout, BufferPool(segment), 0, Nic("d0/snic", None, None), cnics)
    segment.unlink()


def told(context):
    """What engines hear until nothing is left to do."""
    while (at := context.next_deadline_s()) is not None:
        context.now_s = max(context.now_s, at)
        context.poll_nics()
    return [(e.to, e.message) for e in context.outbox if isinstance(e, Send) and isinstance(e.message, CollectiveDone)]


def test_a_collective_takes_both_directions_of_its_engines_nic(context):
    context.now_s = 5.0
    context.on_collective(Collective(1, 7, 1000, 5.0))
    assert told(context) == [(1, CollectiveDone(7, pytest.approx(0.001), pytest.approx(5.001)))]
    for direction in Direction:
        assert context.cnics[1][direction].counters.bytes_by_class == {TrafficClass.MODEL_EXECUTION: 1000}
        assert not context.cnics[0][direction].counters.bytes_by_class


def test_kv_on_the_wire_holds_it_up_for_a_packet_and_its_end_is_told_by_the_schedule(context):
    context.on_grant("p0", Grant(1, 0, Direction.IN, 1_000_000))
    context.poll_nics()
    context.now_s = 0.1
    context.on_collective(Collective(0, 1, 10_000, 0.1))
    context.now_s = 0.9  # looked at late
    context.poll_nics()
    ((_, done),) = told(context)
    assert 0.01 <= done.took_s <= 0.01 + 4096 / RATE + 1e-9
    assert done.end_s == pytest.approx(0.1 + done.took_s)


def test_the_next_collective_waits_for_the_one_before(context):
    for op in (1, 2):
        context.on_collective(Collective(0, op, 10_000, 0.0))
    assert [(m.op, pytest.approx(m.took_s)) for _, m in told(context)] == [(1, 0.01), (2, 0.02)]


def test_a_message_that_comes_late_shifts_nothing(context):
    context.now_s = 3.0
    context.on_collective(Collective(0, 1, 10_000, 2.5))
    assert told(context) == [(0, CollectiveDone(1, pytest.approx(0.01), pytest.approx(2.51)))]


def test_the_engine_is_told_before_the_end(context):
    context.now_s = 1.0
    context.on_collective(Collective(0, 1, 10_000, 1.0))
    context.poll_nics()
    context.now_s = context.next_deadline_s()
    context.poll_nics()
    assert context.now_s <= 1.01 - AHEAD_S
    assert [e.message for e in context.outbox] == [CollectiveDone(1, pytest.approx(0.01), pytest.approx(1.01))]
