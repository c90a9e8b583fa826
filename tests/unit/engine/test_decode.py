"""The decode loop over a memory whose loads take as long as the test wants; no model, no traffic manager."""

import queue
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dualpath_ray.base.types import ReadPath
from dualpath_ray.engine.decode import Cancel, DecodeLoop
from dualpath_ray.engine.memory import Loading
from dualpath_ray.engine.request import EngineRequest
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.traffic.messages import CloseSink, OpenSink, PromptComplete, SinkClosed, SinkLoaded

LAYOUT = KvLayout(1, 16, 4)
VOCABULARY = 8


class Memory:
    """DecodeMemory whose loads end when their event is set."""

    def __init__(self):
        self.arrived, self.waited, self.freed, self.next = {}, [], [], 0

    def load(self, slots, prompt_tokens, max_tokens, num_samples):
        event = self.arrived.setdefault(slots[0], threading.Event())
        kvs = list(range(self.next, self.next + num_samples))
        self.next += num_samples

        def wait():
            self.waited.append(slots[0])
            assert event.wait(10)

        return Loading(kvs, event.is_set, wait)

    def step(self, sequences):
        return None

    def free(self, kv):
        self.freed.append(kv)


class Adapter:
    """Chooses token 3 for everybody; a step begins when the test lets it."""

    description = SimpleNamespace(end_token_ids=())

    def __init__(self):
        self.steps, self.may = [], threading.Semaphore(0)

    def decode(self, token_ids, starts, kv):
        self.steps.append(list(starts))
        assert self.may.acquire(timeout=10)
        return torch.nn.functional.one_hot(torch.full((len(token_ids),), 3), VOCABULARY).float()


class Engine:
    def __init__(self):
        self.memory, self.adapter = Memory(), Adapter()
        self.sent, self.events, self.finished = queue.Queue(), queue.Queue(), queue.Queue()
        self.loop = DecodeLoop(
            0,
            self.adapter,
            LAYOUT,
            self.memory,
            self.sent.put,
            lambda client, event: self.events.put(event),
            self.finished.put,
        )
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def open(self, name, max_tokens=4, num_samples=1):
        params = SamplingParams(max_tokens=max_tokens, num_samples=num_samples)
        tokens = np.array([1, 2, 3], np.int32)
        request = EngineRequest(name, 1, 0, "c", "t", tokens, (), 0, (), b"", 0, params, ReadPath.PE, "p0", 0, "d0", 0)
        self.loop.inbox.put(request)
        assert isinstance(self.sent.get(timeout=10), OpenSink)

    def complete(self, name, slot, num_samples=1):
        self.loop.on_link(PromptComplete(name, 1, [slot], 0, [[5, -0.1]] * num_samples, {}))

    def stop(self):
        self.loop.stop()
        self.adapter.may.release()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def engine():
    made = Engine()
    yield made
    made.stop()


def test_a_prompt_on_its_way_does_not_stop_who_decodes(engine):
    engine.open("a")
    engine.open("b")
    engine.memory.arrived[1] = threading.Event()
    engine.memory.arrived[1].set()
    engine.complete("a", 1)
    assert isinstance(engine.sent.get(timeout=10), SinkLoaded)
    engine.complete("b", 2)
    engine.adapter.may.release(2)
    assert engine.events.get(timeout=10).tokens == (3,) and engine.events.get(timeout=10).tokens == (3,)
    assert engine.memory.waited == [] and engine.sent.empty()  # b is not here, and nobody stood still for it
    engine.memory.arrived[2].set()
    engine.adapter.may.release(10)
    assert engine.sent.get(timeout=10).request_id == "b"
    assert {engine.finished.get(timeout=10), engine.finished.get(timeout=10)} == {"a", "b"}
    assert engine.adapter.steps[:2] == [[3], [4]]  # a alone
    assert sorted(engine.memory.freed) == [0, 1]


def test_with_nothing_else_to_do_the_next_prompt_is_waited_for(engine):
    engine.open("a", max_tokens=1)
    engine.complete("a", 1)
    threading.Timer(0.05, lambda: engine.memory.arrived[1].set()).start()
    assert isinstance(engine.sent.get(timeout=10), SinkLoaded)
    assert engine.finished.get(timeout=10) == "a" and engine.memory.freed == [0]
    assert engine.memory.waited == [1] and engine.adapter.steps == []  # its one token came with the prompt


def test_a_cancel_while_its_slots_are_read_ends_it_when_they_are(engine):
    engine.open("a", num_samples=2)
    engine.complete("a", 1, num_samples=2)
    engine.loop.inbox.put(Cancel("a"))
    engine.loop.on_link(SinkClosed("a", 1))  # of an answer that crossed: the slots are still read
    with pytest.raises(queue.Empty):
        engine.finished.get(timeout=0.1)
    engine.memory.arrived[1].set()
    assert isinstance(engine.sent.get(timeout=10), SinkLoaded)  # the slots are free now, and not before
    assert engine.finished.get(timeout=10) == "a"
    ends = [engine.events.get(timeout=10) for _ in range(2)]
    assert all(event.finished and event.reason == "cancelled" for event in ends)
    assert sorted(engine.memory.freed) == [0, 1] and engine.adapter.steps == []


def test_a_cancel_before_the_prompt_is_complete_closes_the_sink(engine):
    engine.open("a")
    engine.loop.inbox.put(Cancel("a"))
    assert isinstance(engine.sent.get(timeout=10), CloseSink)
    engine.loop.on_link(SinkClosed("a", 1))
    assert engine.finished.get(timeout=10) == "a" and engine.memory.freed == []


def test_a_prompt_of_an_earlier_attempt_is_not_loaded(engine):
    engine.open("a")
    engine.loop.on_link(PromptComplete("a", 0, [7], 0, [[5, -0.1]], {}))
    engine.memory.arrived[1] = threading.Event()
    engine.memory.arrived[1].set()
    engine.complete("a", 1)
    assert isinstance(engine.sent.get(timeout=10), SinkLoaded)
    assert 7 not in engine.memory.arrived
