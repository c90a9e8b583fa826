"""Engines without a model: they obey the protocol of the real ones, and their KV says which tokens it belongs to."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from random import Random
from typing import Any

import numpy as np

from dualpath_ray.base.types import ReadPath
from dualpath_ray.kv.keys import ROOT, block_keys
from dualpath_ray.kv.segment import FREE, Segment
from dualpath_ray.traffic import messages as m
from dualpath_ray.traffic.copies import ChunkPlan, plan_rows

SALT = b"salt of these tests"


@dataclass(frozen=True)
class FakeRequest:
    """What both engines are told of a request."""

    request_id: str
    attempt: int
    trajectory_id: str
    tokens: tuple[int, ...]
    keys: tuple[bytes, ...]
    hit_blocks: int
    being_written: tuple[bool, ...]
    gen_tokens: int
    path: ReadPath
    prefill: tuple[str, int]
    decode: tuple[str, int]

    @property
    def key(self) -> tuple[str, int]:
        return (self.request_id, self.attempt)


@cache
def _prefix_hash(tokens: tuple[int, ...]) -> bytes:
    before = _prefix_hash(tokens[:-1]) if tokens else b""
    return hashlib.blake2b(before + repr(tokens[-1:]).encode()).digest()


@cache
def kv_row(tokens: tuple[int, ...], layer: int, nbytes: int) -> np.ndarray:
    """KV in one layer of the last of ``tokens``: it depends on all of them, as attention makes it."""
    return np.frombuffer(hashlib.blake2b(_prefix_hash(tokens) + bytes([layer]), digest_size=nbytes).digest(), np.uint8)


def kv_rows(tokens: Sequence[int], layer: int, first: int, stop: int, nbytes: int) -> np.ndarray:
    """uint8 [stop - first, nbytes]."""
    rows = [kv_row(tuple(tokens[: t + 1]), layer, nbytes) for t in range(first, stop)]
    return np.array(rows, np.uint8).reshape(stop - first, nbytes)


@dataclass
class _Source:
    request: FakeRequest
    hit_blocks: int = -1  # verified; -1 until the source is ready
    slots: Sequence[int] = ()
    done_tokens: int = 0


@dataclass
class _Forward:
    number: int
    parts: list[tuple[_Source, ChunkPlan]]
    offsets: dict[int, int] = field(default_factory=dict)  # layers that arrived
    loaded: int = 0
    computed: int = 0


class FakePrefill:
    """Forward batches of random size, layer by layer or not; the next one may begin once all layers of one are loaded.

    ``chunks`` records what was computed of each attempt.
    """

    def __init__(self, engine: int, segment: Segment, layerwise: bool, max_rows: int, random: Random, send) -> None:
        self._engine, self._segment, self._layerwise, self._max_rows = engine, segment, layerwise, max_rows
        self._random, self._send = random, send
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._inbox: list[Any] = []
        self._forwards: list[_Forward] = []  # the one that computes, and the next
        self._batches = 0
        self.chunks: dict[tuple[str, int], tuple[FakeRequest, int, list[int]]] = {}

    def on_message(self, message: Any) -> None:
        """A LayerIn goes to its batch; everything else waits until the engine looks."""
        if isinstance(message, m.LayerIn):
            [forward] = [f for f in self._forwards if f.number == message.batch]
            assert message.layer == len(forward.offsets), "layers come in order"
            forward.offsets[message.layer] = message.offset
        else:
            self._inbox.append(message)

    def actions(self) -> list[Callable[[], None]]:
        """What the engine could do now."""
        layers = self._segment.layout.num_layers
        actions: list[Callable[[], None]] = []
        if not self._forwards or self._may_begin_next(self._forwards[-1]):
            actions += [self._take_in] if self._inbox else []
            actions += [self._begin] if self._ready() and len(self._forwards) < 2 else []
        held = sum(f.loaded - f.computed for f in self._forwards)
        for forward in self._forwards:
            if forward.loaded in forward.offsets and (held < 2 or not self._layerwise):
                actions.append(partial(self._load, forward))
        for forward in self._forwards[:1]:
            if forward.loaded > forward.computed and (self._layerwise or forward.loaded == layers):
                actions.append(self._compute)
            if forward.computed == layers:
                actions.append(self._finish)
        return actions

    def _may_begin_next(self, forward: _Forward) -> bool:
        """All of it is here, and no prompt goes on in it."""
        ends = all(plan.stop == len(source.request.tokens) for source, plan in forward.parts)
        return self._layerwise and forward.loaded == self._segment.layout.num_layers and ends

    def _ready(self) -> list[_Source]:
        busy = [source for forward in self._forwards for source, _ in forward.parts]
        return [s for s in self._sources.values() if s.hit_blocks >= 0 and not any(s is b for b in busy)]

    def _take_in(self) -> None:
        message = self._inbox.pop(0)
        if isinstance(message, FakeRequest):
            self._sources[message.request_id] = _Source(message)
            node, cnic = message.decode
            hits = list(message.keys[: message.hit_blocks])
            written_later = list(message.being_written)
            self._send(m.OpenSource(*message.key, 0, self._engine, message.path, hits, written_later, node, cnic))
        elif isinstance(message, m.SourceReady):
            source = self._sources.get(message.request_id)  # a later attempt may have taken its place, and be over
            if source is not None and source.request.attempt == message.attempt:
                source.hit_blocks, source.slots = message.hit_blocks, message.slots
                source.done_tokens = message.hit_blocks * self._segment.layout.block_tokens
                self._sources.move_to_end(message.request_id)
        elif isinstance(message, m.SourceGone):
            source = self._sources.get(message.request_id)
            if source is not None and source.request.attempt == message.attempt:
                del self._sources[message.request_id]
            self._send(m.CloseSource(message.request_id, message.attempt))

    def _begin(self) -> None:
        self._batches += 1
        tokens, rows = self._segment.layout.block_tokens, 0
        chosen: list[tuple[_Source, int]] = []
        for source in self._ready():
            left = len(source.request.tokens) - source.done_tokens
            room = self._max_rows - rows - source.done_tokens
            if room < 1 or (chosen and self._random.random() < 0.4):
                break
            count = min(left, room, self._random.choice([1, 3, 7, 100]))
            chosen.append((source, count))
            rows += source.done_tokens + count
        plans = plan_rows(
            [(s.request.path, s.hit_blocks * tokens, s.done_tokens, s.done_tokens + n) for s, n in chosen]
        )
        parts = [(source, plan) for (source, _), plan in zip(chosen, plans, strict=True)]
        self._forwards.append(_Forward(self._batches, parts))
        items = [[s.request.request_id, p.start, p.stop, p.stop == len(s.request.tokens)] for s, p in parts]
        self._send(m.Batch(self._engine, self._batches, items))

    def _load(self, forward: _Forward) -> None:
        """The rows of every cached token must be the right ones."""
        layout = self._segment.layout
        layer, width = forward.loaded, layout.bytes_per_token_layer
        for source, plan in forward.parts:
            request = source.request
            if plan.local_tokens:
                assert (self._segment.table["state"][list(source.slots)] != FREE).all()
                local = np.concatenate([self._segment.full_block(slot)[layer] for slot in source.slots])
                assert (local == kv_rows(request.tokens, layer, 0, plan.local_tokens, width)).all()
            staged = self._rows(forward, layer, plan.first_row, plan.start - plan.local_tokens)
            assert (staged == kv_rows(request.tokens, layer, plan.local_tokens, plan.start, width)).all()
        forward.loaded += 1

    def _rows(self, forward: _Forward, layer: int, first: int, count: int) -> np.ndarray:
        width = self._segment.layout.bytes_per_token_layer
        start = forward.offsets[layer] + first * width
        return self._segment.bytes[start : start + count * width].reshape(count, width)

    def _compute(self) -> None:
        forward = self._forwards[0]
        forward.computed += 1
        if self._layerwise:
            self._push(forward, forward.computed - 1)

    def _push(self, forward: _Forward, layer: int) -> None:
        width = self._segment.layout.bytes_per_token_layer
        for source, plan in forward.parts:
            target = self._rows(forward, layer, plan.new_row, plan.stop - plan.start)
            target[:] = kv_rows(source.request.tokens, layer, plan.start, plan.stop, width)
        self._send(m.LayerOut(self._engine, forward.number, layer))

    def _finish(self) -> None:
        forward = self._forwards.pop(0)
        if not self._layerwise:
            for layer in range(self._segment.layout.num_layers):
                self._push(forward, layer)
        first: dict[str, list[list[float]]] = {}
        for source, plan in forward.parts:
            request = source.request
            source.done_tokens = plan.stop
            self.chunks.setdefault(request.key, (request, source.hit_blocks, []))[2].append(plan.stop)
            if plan.stop == len(request.tokens):
                first[request.request_id] = [[next_token(request.tokens), 0.0]]
                if self._sources.get(request.request_id) is source:  # else it was given up meanwhile
                    del self._sources[request.request_id]
        self._send(m.BatchDone(self._engine, forward.number, first, {}))

    @property
    def idle(self) -> bool:
        return not self._sources and not self._inbox and not self._forwards


def next_token(tokens: Sequence[int]) -> int:
    """What this model generates after ``tokens``."""
    return _prefix_hash(tuple(tokens))[0]


@dataclass
class _Running:
    request: FakeRequest
    loaded: bool = False
    tokens: list[int] = field(default_factory=list)  # prompt and generated
    parent: bytes = ROOT
    num_blocks: int = 0
    unregistered: int = 0
    cancelled: bool = False
    handing_over: dict[int, tuple[int, bytes, bytes]] = field(default_factory=dict)

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.request.tokens)

    @property
    def done(self) -> bool:
        return self.cancelled or self.generated >= self.request.gen_tokens


class FakeDecode:
    """Decodes its requests token by token; ``ended`` is told (request, tokens or None when cancelled)."""

    def __init__(self, engine: int, segment: Segment, random: Random, send, ended) -> None:
        self._engine, self._segment, self._random = engine, segment, random
        self._send, self._ended = send, ended
        self._requests: dict[tuple[str, int], _Running] = {}
        self._cancelled_early: set[tuple[str, int]] = set()
        self._wants = 0
        self.loaded_hits: dict[tuple[str, int], int] = {}

    def on_message(self, message: Any) -> None:
        if isinstance(message, FakeRequest):
            self._open(message)
            return
        running = self._requests.get((message.request_id, message.attempt))
        assert running is not None, f"{message} about a request that has ended"
        if isinstance(message, m.PromptComplete):
            self._load(running, message)
        elif isinstance(message, m.PersistSlot):
            self._copy_out(running, message)
        elif isinstance(message, m.Registered):
            running.unregistered -= message.count
        elif isinstance(message, m.SinkClosed):
            assert not running.loaded and running.cancelled
            self._end(running)
            return
        self._finish_if_over(running)

    def actions(self) -> list[Callable[[], None]]:
        return [self._step] if any(r.loaded and not r.done for r in self._requests.values()) else []

    def cancel(self, key: tuple[str, int]) -> None:
        running = self._requests.get(key)
        if running is None:
            self._cancelled_early.add(key)
            return
        running.cancelled = True
        if running.loaded:
            self._finish_if_over(running)
        else:
            self._send(m.CloseSink(*key))

    def _open(self, request: FakeRequest) -> None:
        self._requests[request.key] = _Running(request)
        hits, later = list(request.keys[: request.hit_blocks]), list(request.being_written)
        tokens = len(request.tokens)
        self._send(m.OpenSink(*request.key, 0, self._engine, tokens, request.path, hits, later, request.prefill[0]))
        if request.key in self._cancelled_early:
            self.cancel(request.key)

    def _load(self, running: _Running, message: m.PromptComplete) -> None:
        """Every byte of the prompt's KV must be the right one."""
        request, layout = running.request, self._segment.layout
        assert (self._segment.table["state"][message.slots] != FREE).all()
        kv = np.concatenate([self._segment.full_block(slot) for slot in message.slots], axis=1)
        for layer in range(layout.num_layers):
            right = kv_rows(request.tokens, layer, 0, len(request.tokens), layout.bytes_per_token_layer)
            assert (kv[layer, : len(request.tokens)] == right).all(), f"{request.request_id}: wrong KV, layer {layer}"
        whole = len(request.tokens) // layout.block_tokens
        persist = [[b, request.keys[b], request.keys[b - 1] if b else ROOT] for b in range(message.hit_blocks, whole)]
        running.loaded, running.num_blocks = True, whole
        running.unregistered += len(persist)
        running.parent = request.keys[whole - 1] if whole else ROOT
        running.tokens = [*request.tokens, int(message.first[0][0])]
        self.loaded_hits[request.key] = message.hit_blocks
        self._send(m.SinkLoaded(*request.key, request.trajectory_id, 0, persist))

    def _step(self) -> None:
        running = self._random.choice([r for r in self._requests.values() if r.loaded and not r.done])
        size = self._segment.layout.block_tokens
        kv_tokens = len(running.tokens)  # the step computes the KV of the last one
        running.tokens.append(next_token(running.tokens))
        if kv_tokens % size == 0:
            key = block_keys(np.array(running.tokens[:kv_tokens]), size, SALT, running.parent, running.num_blocks)[0]
            running.handing_over[self._wants] = (running.num_blocks, key, running.parent)
            running.parent, running.num_blocks = key, running.num_blocks + 1
            running.unregistered += 1
            self._send(m.PersistWant(*running.request.key, self._engine, self._wants))
            self._wants += 1
        self._finish_if_over(running)

    def _copy_out(self, running: _Running, message: m.PersistSlot) -> None:
        block, key, parent = running.handing_over.pop(message.block)
        layout = self._segment.layout
        assert self._segment.table["state"][message.slot] != FREE
        first = block * layout.block_tokens
        for layer in range(layout.num_layers):
            rows = kv_rows(running.tokens, layer, first, first + layout.block_tokens, layout.bytes_per_token_layer)
            self._segment.full_block(message.slot)[layer] = rows
        request = running.request
        self._send(m.PersistReady(*request.key, self._engine, request.trajectory_id, 0, message.slot, key, parent))

    def _finish_if_over(self, running: _Running) -> None:
        if running.loaded and running.done and not running.unregistered:
            self._end(running)

    def _end(self, running: _Running) -> None:
        if self._requests.pop(running.request.key, None) is not None:
            self._ended(running.request, None if running.cancelled else running.tokens)

    @property
    def idle(self) -> bool:
        return not self._requests
