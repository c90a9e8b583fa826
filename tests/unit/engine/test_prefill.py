"""The prefill engine's loop over a toy model, with a stand-in for the traffic manager."""

import secrets
from contextlib import suppress

import numpy as np
import pytest
import torch

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.types import ReadPath
from dualpath_ray.engine.describe import describe
from dualpath_ray.engine.layerwise import DramBatches
from dualpath_ray.engine.model import ModelAdapter, load_model
from dualpath_ray.engine.prefill import PrefillLimits, PrefillLoop
from dualpath_ray.engine.request import EngineRequest
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import SHM_DIR, Segment
from dualpath_ray.scheduler.intra_engine import AttentionPredictor
from dualpath_ray.traffic.messages import (
    Batch,
    BatchDone,
    CloseSource,
    LayerIn,
    OpenSource,
    SourceGone,
    SourceReady,
)

MODEL, SIZE, ROWS = "toy-qwen2", 16, 64
DEPTH = 4  # staging regions: without layerwise every layer needs one at once


class Engine:
    """A loop whose link is this object: every request is ready at once, regions are granted in order as they get free."""

    def __init__(self, layerwise=True, max_batch_tokens=40):
        description = describe(MODEL, "float32", 0)
        self.layout = KvLayout(description.num_layers, SIZE, description.bytes_per_token_layer("float32"))
        self.region = ROWS * self.layout.bytes_per_token_layer
        path = SHM_DIR / f"dualpath-test.{secrets.token_hex(4)}"
        self.segment = Segment.create(path, self.layout, 4, DEPTH * self.region, "test")
        self.segment.unlink()
        self.said, self.tokens, self.finished = [], {}, []
        self.when_begun = {}  # request -> what happens as soon as a batch with it has begun
        self.waiting, self.free = [], list(range(DEPTH))
        self.where = {}
        self.loop = PrefillLoop(
            0,
            ModelAdapter(description, "float32", 0),
            self.layout,
            DramBatches(self.segment, 0, layerwise, self.send),
            PrefillLimits(layerwise, None, 1, max_batch_tokens, ROWS),
            AttentionPredictor(1.0, 0.0, 1, 1),
            self.send,
            self.emit,
            self.finished.append,
        )

    def send(self, message):
        self.said.append(message)
        loop = self.loop
        if isinstance(message, OpenSource):
            loop.on_link(SourceReady(message.request_id, message.attempt, 0, [], 0.0, 0.0, 0))
        elif isinstance(message, Batch):
            self.waiting += [(message.batch, layer) for layer in range(self.layout.num_layers)]
            self.grant()
            for item in message.items:
                self.when_begun.pop(item[0], lambda: None)()
        elif not isinstance(message, (BatchDone, CloseSource)):  # LayerOut
            self.free.append(self.where.pop((message.batch, message.layer)))
            self.grant()

    def grant(self):
        while self.waiting and self.free:
            batch, layer = self.waiting.pop(0)
            self.where[batch, layer] = index = self.free.pop(0)
            self.loop.on_link(LayerIn(batch, layer, self.segment.staging_offset + index * self.region, 0.0))

    def emit(self, client, event):
        self.tokens[event.request_id] = event.tokens[0]

    def run(self, *requests, ends=None):
        """Until everything is computed, or so many requests have ended."""
        for request in requests:
            self.loop.inbox.put(request)
        done = self.loop._finished

        def finished(request_id):
            done(request_id)
            if len(self.finished) == (ends or len(requests)):
                self.loop.stop()

        self.loop._finished = finished
        self.loop.run()

    def order(self):
        """('begin' | 'done', number) as the traffic manager hears it."""
        kinds = {Batch: "begin", BatchDone: "done"}
        return [(kinds[type(m)], m.batch) for m in self.said if type(m) in kinds]


def prompt(seed, count):
    return np.random.default_rng(seed).integers(2, 500, count).astype(np.int32)


def request(name, tokens, attempt=1):
    return EngineRequest(
        request_id=name,
        attempt=attempt,
        seq=1,
        client_id="c",
        trajectory_id=name,
        token_ids=tokens,
        keys=(),
        being_written=(),
        salt=b"",
        weights_version=0,
        params=SamplingParams(max_tokens=1),
        hit_blocks=0,
        read_path=ReadPath.PE,
        prefill_node="p0",
        prefill_engine=0,
        decode_node="d0",
        decode_engine=0,
    )


@pytest.fixture(scope="module")
def plain():
    return load_model(MODEL, torch.float32, 0)


def expected(plain, tokens):
    with torch.inference_mode():
        logits = plain(input_ids=torch.from_numpy(tokens).long()[None], use_cache=False).logits
    return int(logits[0, -1].argmax())


def test_the_next_batch_begins_while_one_computes(plain):
    engine = Engine()
    prompts = {f"r{i}": prompt(i, 40) for i in range(3)}  # one fills a batch
    engine.run(*(request(name, tokens) for name, tokens in prompts.items()))
    assert engine.order() == [("begin", 1), ("begin", 2), ("done", 1), ("begin", 3), ("done", 2), ("done", 3)]
    assert engine.tokens == {name: expected(plain, tokens) for name, tokens in prompts.items()}
    assert not engine.loop._loading


def test_without_layerwise_batches_come_one_by_one(plain):
    engine = Engine(layerwise=False)
    prompts = {f"r{i}": prompt(i, 40) for i in range(2)}
    engine.run(*(request(name, tokens) for name, tokens in prompts.items()))
    assert engine.order() == [("begin", 1), ("done", 1), ("begin", 2), ("done", 2)]
    assert engine.tokens == {name: expected(plain, tokens) for name, tokens in prompts.items()}


def test_nothing_overtakes_a_prompt_that_goes_on(plain):
    engine = Engine(max_batch_tokens=30)
    long, short = prompt(1, 45), prompt(2, 20)
    engine.run(request("long", long), request("short", short))
    begun = [[item[0] for item in m.items] for m in engine.said if isinstance(m, Batch)]
    assert begun[0] == ["long"] and begun[1][0] == "long"
    assert engine.order()[:3] == [("begin", 1), ("done", 1), ("begin", 2)]
    assert engine.tokens["short"] == expected(plain, short)


@pytest.mark.parametrize("gone", ["r0", "r1"])
def test_a_request_given_up_while_its_batch_computes_or_waits_is_told_once_and_leaves_nothing(plain, gone):
    engine = Engine()
    engine.when_begun[gone] = lambda: engine.loop.on_link(SourceGone(gone, 1))
    prompts = {f"r{i}": prompt(i, 40) for i in range(3)}
    engine.run(*(request(name, tokens) for name, tokens in prompts.items()))
    assert engine.tokens == {name: expected(plain, tokens) for name, tokens in prompts.items() if name != gone}
    assert sorted(engine.finished) == ["r0", "r1", "r2"] and not engine.loop._loading and not engine.loop._requests
    assert [m.request_id for m in engine.said if isinstance(m, CloseSource)] == [gone]
    assert engine.order()[-1] == ("done", 3), "its batch is over too"


def test_another_attempt_of_a_request_whose_batch_waits_is_computed_for_itself(plain):
    engine = Engine()
    first, second = prompt(1, 40), prompt(7, 40)

    def again():
        engine.loop.on_link(SourceGone("r1", 1))
        engine.loop.inbox.put(request("r1", second, attempt=2))

    engine.when_begun["r1"] = again
    engine.run(request("r0", prompt(0, 40)), request("r1", first), ends=3)
    assert engine.finished.count("r1") == 2 and engine.tokens["r1"] == expected(plain, second)
    assert not engine.loop._requests


def test_a_stop_with_a_batch_begun_begins_no_other():
    engine = Engine()
    engine.when_begun["r1"] = engine.loop.stop
    with suppress(TransportError):  # the batch that computes may need a region that will not come
        engine.run(*(request(f"r{i}", prompt(i, 40)) for i in range(3)))
    assert [number for kind, number in engine.order() if kind == "begin"] == [1, 2]
