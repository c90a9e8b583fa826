"""Timed models and the bursts between layers: what an engine would compute is left out, and nothing else."""

import queue
import time

import pytest
import torch

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.engine.collectives import Collectives
from dualpath_ray.engine.describe import describe
from dualpath_ray.engine.timed import DeviceTime, TimedAdapter, layer_time, next_token
from dualpath_ray.traffic.messages import CollectiveDone

MODEL = "timed-3l-1us"


class Kv:
    """LayerKv of requests with cached and new rows; remembers the order of calls."""

    def __init__(self, totals, calls):
        self.rows = [torch.full((total, 8), 9, dtype=torch.uint8) for total in totals]
        self.calls = calls

    def begin_layer(self, layer):
        self.calls.append(("begin", layer))
        return self.rows

    def end_layer(self, layer):
        self.calls.append(("end", layer))


def test_a_name_says_layers_and_time():
    assert layer_time("timed-8l-5ms") == (8, 0.005) and layer_time("timed-61l-250us") == (61, 250e-6)
    for wrong in ("timed-8l", "timed-0l-5ms", "timed-8l-5s", "timed-8l-0ms"):
        with pytest.raises(ConfigError, match=f"model: {wrong} is no timed model; write for example timed-8l-5ms"):
            describe(wrong, "float32", 0)


def test_a_forward_goes_through_all_layers_and_leaves_no_strangers_bytes():
    adapter, calls = TimedAdapter(describe(MODEL, "float32", 0)), []
    kv = Kv([5, 3], calls)
    logits = adapter.forward([[40, 41], [50]], [3, 2], kv, [0, 1])
    assert calls == [(what, layer) for layer in range(3) for what in ("begin", "end")]
    assert (kv.rows[0][:3] == 9).all() and not kv.rows[0][3:].any() and not kv.rows[1][2:].any()
    assert logits.argmax(1).tolist() == [next_token(41), next_token(50)]
    assert adapter.forward([[7]], [0], Kv([1], []), []).shape[0] == 0, "a chunk that is not a prompt's last"


@pytest.mark.parametrize("decodes", [True, False])
def test_each_layer_ends_with_a_burst_of_its_tokens(decodes):
    """The next layer begins when the burst of the one before is through."""
    calls = []

    def send(message):
        calls.append((message.engine, message.op, message.nbytes))
        collectives.on_done(CollectiveDone(message.op, 0.25, 0.0))

    collectives = Collectives(1, 100, send)
    model = TimedAdapter(describe(MODEL, "float32", 0))
    model.after_layer(collectives.run)
    if decodes:
        model.decode([40, 50], [2, 2], Kv([3, 3], calls))
    else:
        model.forward([[40], [50]], [2, 2], Kv([3, 3], calls), [0, 1])
    expected = []
    for layer in range(3):
        expected += [("begin", layer), ("end", layer), (1, layer + 1, 200)]
    assert calls == expected
    assert [wire for wire, _ in collectives.take_times()] == [0.25] * 3 and collectives.take_times() == []


def test_a_burst_fails_with_its_traffic_manager():
    sent = queue.SimpleQueue()
    collectives = Collectives(0, 1, sent.put)
    collectives.on_done(None)
    with pytest.raises(TransportError, match="the link to the traffic manager has ended"):
        collectives.run(1)
    assert sent.get().op == 1


class LateHost:
    """A clock whose sleeper wakes up late, each time."""

    def __init__(self, late_s):
        self.now_s, self._late_s = 1000.0, late_s

    def clock(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds + self._late_s


def test_a_burst_is_over_at_its_end_and_not_when_it_is_told():
    end_s = time.monotonic() + 0.02

    def send(message):
        assert message.posted_s <= time.monotonic()
        collectives.on_done(CollectiveDone(message.op, 0.02, end_s))

    collectives = Collectives(0, 1, send)
    collectives.run(1)
    assert time.monotonic() >= end_s


def test_a_device_goes_on_though_its_host_wakes_up_late():
    """Layers and bursts follow each other without a gap; only what is told too late makes it late."""
    host, posted = LateHost(0.004), []
    device = DeviceTime(host.clock, host.sleep)

    def send(message):
        posted.append(message.posted_s)
        end_s = message.posted_s + (0.01 if len(posted) < 3 else -1.0)
        collectives.on_done(CollectiveDone(message.op, 0.01, end_s))

    adapter = TimedAdapter(describe("timed-3l-5ms", "float32", 0), device)
    collectives = Collectives(0, 1, send, device)
    adapter.after_layer(collectives.run)
    adapter.decode([40], [2], Kv([3], []))
    assert [at_s - 1000.0 for at_s in posted] == pytest.approx([0.005, 0.020, 0.035], abs=1e-9)
    late = 0.035 + 0.004
    assert device.at_s - 1000.0 == pytest.approx(late, abs=1e-9), (
        "an end that is over when it is told is no end before now"
    )
