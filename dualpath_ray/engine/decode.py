"""The decode engine's loop: continuous batching over all its requests; every full block is persisted as it fills."""

import queue
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualpath_ray.base.span_log import Span, SpanLog
from dualpath_ray.engine.adapter import Adapter
from dualpath_ray.engine.memory import DecodeMemory, Loading
from dualpath_ray.engine.request import EngineRequest, StepEvent
from dualpath_ray.engine.sampling import sample
from dualpath_ray.kv.keys import ROOT, block_keys
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.traffic.messages import (
    CloseSink,
    OpenSink,
    PersistReady,
    PersistSlot,
    PersistWant,
    PromptComplete,
    Registered,
    SinkClosed,
    SinkLoaded,
)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a request. Local to the engine."""

    request_id: str


@dataclass(slots=True)
class _Sequence:
    """One sample of a request."""

    index: int
    kv: Any  # of the engine's memory
    kv_tokens: int
    generated: list[int]
    logprobs: list[float]
    parent: bytes  # key of its last whole block
    num_blocks: int  # whole blocks that are persisted or on the way
    done: str = ""  # why it ended


@dataclass(slots=True)
class _Running:
    request: EngineRequest
    sequences: list[_Sequence] = field(default_factory=list)
    unregistered: int = 0  # blocks handed over that the index does not know yet
    num_writes: int = 0  # blocks that the index did not have
    num_copied_out: int = 0  # blocks that filled while it decoded
    copying: dict[int, tuple[_Sequence, int, bytes, bytes]] = field(
        default_factory=dict
    )  # hand-overs without a slot yet
    cancelled: bool = False
    loading: bool = False  # its prompt is complete and its slots are read, or will be
    complete_s: float = 0.0
    loaded: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


class DecodeLoop:
    """Runs in one thread; everything else talks to it through ``inbox``."""

    def __init__(
        self,
        engine: int,
        adapter: Adapter,
        layout: KvLayout,
        memory: DecodeMemory,
        send: Callable[[Any], None],
        emit: Callable[[str, StepEvent], None],
        finished: Callable[[str], None],
        urgent_s: float = 0.0,
    ) -> None:
        """Args: urgent_s: before a request's deadline its KV becomes urgent."""
        self._urgent_s = urgent_s
        self._engine, self._adapter, self._layout, self._memory = engine, adapter, layout, memory
        self._send, self._emit, self._finished = send, emit, finished
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._requests: OrderedDict[str, _Running] = OrderedDict()
        self._cancelled_early: deque[str] = deque(maxlen=1024)
        self._loading: deque[tuple[PromptComplete, Loading]] = deque()
        self.spans = SpanLog()
        self.num_steps = self.generated_tokens = 0
        self.compute_s = 0.0
        self._next_want = 0

    # called from other threads ---------------------------------------------------------------------------------------

    def on_link(self, message: Any) -> None:
        self.inbox.put(message)

    def stop(self) -> None:
        self.inbox.put(None)

    @property
    def num_requests(self) -> int:
        """That are here and have not ended."""
        return len(self._requests)

    @property
    def kv_tokens(self) -> int:
        """Tokens whose KV the engine holds, the prompt once for each sample."""
        return sum(s.kv_tokens for r in list(self._requests.values()) for s in list(r.sequences))

    # the loop --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``."""
        while True:
            try:
                block = not self._loading and not self._active()
                while True:
                    message = self.inbox.get(block=block)
                    if message is None:
                        return
                    self._take_in(message)
                    block = False
            except queue.Empty:
                pass
            self._take_loaded()
            if active := self._active():
                self._step(active)
            elif self._loading:  # nothing else to do
                self._loading[0][1].wait()

    def _active(self) -> list[tuple[_Running, _Sequence]]:
        return [(r, s) for r in self._requests.values() if r.loaded for s in r.sequences if not s.done]

    def _take_in(self, message: Any) -> None:
        if isinstance(message, EngineRequest):
            self._open(message)
        elif isinstance(message, PromptComplete):
            self._load(message)
        elif isinstance(message, PersistSlot):
            self._copy_out(message)
        elif isinstance(message, Registered):
            running = self._requests.get(message.request_id)
            if running is not None and running.request.attempt == message.attempt:
                running.unregistered -= message.count
                running.num_writes += message.num_writes
                self._finish_if_over(running)
        elif isinstance(message, Cancel):
            self._cancel(message.request_id)
        elif isinstance(message, SinkClosed):
            running = self._requests.get(message.request_id)
            if running is not None and running.request.attempt == message.attempt and not running.loading:
                self._end(running, "cancelled")

    def _open(self, request: EngineRequest) -> None:
        self._requests[request.request_id] = _Running(request)
        if request.request_id in self._cancelled_early:
            self.inbox.put(Cancel(request.request_id))  # after the prefill side has been told of the request
        self._send(
            OpenSink(
                request.request_id,
                request.attempt,
                request.seq,
                self._engine,
                request.prompt_tokens,
                request.read_path,
                list(request.keys[: request.hit_blocks]),
                list(request.being_written),
                request.prefill_node,
                request.urgent_at_s(self._urgent_s),
            )
        )

    def _load(self, message: PromptComplete) -> None:
        """H2D begins: the prompt's KV from the DE buffer."""
        running = self._requests.get(message.request_id)
        if running is None or running.request.attempt != message.attempt:
            return
        running.loading, running.complete_s = True, time.time()
        params = running.request.params
        prompt = running.request.prompt_tokens
        loading = self._memory.load(message.slots, prompt, params.max_tokens, params.num_samples)
        self._loading.append((message, loading))
        self._take_loaded()

    def _take_loaded(self) -> None:
        """Prompts that are in the engine's memory join, in order."""
        while self._loading and self._loading[0][1].done():
            message, loading = self._loading.popleft()
            self._join(message, loading.kv)

    def _join(self, message: PromptComplete, kv_of_samples: Sequence[Any]) -> None:
        """The prompt's slots are free now, or go to storage; its samples decode from here on."""
        running, size = self._requests[message.request_id], self._layout.block_tokens
        request = running.request
        whole = request.prompt_tokens // size
        persist = [[b, request.keys[b], request.keys[b - 1] if b else ROOT] for b in range(message.hit_blocks, whole)]
        running.unregistered += len(persist)
        running.loaded = True
        self._send(
            SinkLoaded(request.request_id, request.attempt, request.trajectory_id, request.weights_version, persist)
        )
        parent = request.keys[whole - 1] if whole else ROOT
        for index, (kv, (token, logprob)) in enumerate(zip(kv_of_samples, message.first, strict=True)):
            sequence = _Sequence(index, kv, request.prompt_tokens, [int(token)], [logprob], parent, whole)
            running.sequences.append(sequence)
        running.facts = {
            "prompt_complete_s": running.complete_s,
            "loaded_s": time.time(),
            "hit_blocks": message.hit_blocks,
            **message.stages,
        }
        for sequence in running.sequences:
            self._check_end(running, sequence)
        if running.cancelled:
            self._cancel(request.request_id)
        self._finish_if_over(running)

    def _step(self, active: list[tuple[_Running, _Sequence]]) -> None:
        started = time.monotonic()
        sequences = [s for _, s in active]
        logits = self._adapter.decode(
            [s.generated[-1] for s in sequences],
            [s.kv_tokens for s in sequences],
            self._memory.step([(s.kv, s.kv_tokens) for s in sequences]),
        )
        now = time.time()
        for row, (running, sequence) in enumerate(active):
            request = running.request
            sequence.kv_tokens += 1
            position = request.prompt_tokens + len(sequence.generated)
            token, logprob = sample(
                logits[row], request.params, self._adapter.description.end_token_ids, sequence.index, position
            )
            sequence.generated.append(token)
            sequence.logprobs.append(logprob)
            event = StepEvent(
                request.request_id,
                request.attempt,
                sequence.index,
                len(sequence.generated) - 1,
                (token,),
                (logprob,),
                now,
            )
            self._emit(request.client_id, event)
            if sequence.kv_tokens % self._layout.block_tokens == 0:
                self._persist(running, sequence)
            self._check_end(running, sequence)
            self._finish_if_over(running)
        stopped = time.monotonic()
        requests = tuple(running.request.request_id for running, _ in active)
        self.spans.add(Span("decode_step", started, stopped, requests, ""))
        self.num_steps += 1
        self.generated_tokens += len(active)
        self.compute_s += stopped - started

    def _check_end(self, running: _Running, sequence: _Sequence) -> None:
        params = running.request.params
        ends = set(params.stop_token_ids)
        if not params.ignore_end:
            ends |= set(self._adapter.description.end_token_ids)
        if sequence.generated[-1] in ends:
            sequence.done = "stop"
        elif len(sequence.generated) >= params.max_tokens:
            sequence.done = "length"

    def _persist(self, running: _Running, sequence: _Sequence) -> None:
        """A block is full: name it by the tokens it holds and ask for a slot."""
        request, size = running.request, self._layout.block_tokens
        block = sequence.num_blocks
        context = np.concatenate([request.token_ids, np.array(sequence.generated, np.int32)])[: sequence.kv_tokens]
        key = block_keys(context, size, request.salt, sequence.parent, block)[0]
        running.copying[self._next_want] = (sequence, block, key, sequence.parent)
        running.unregistered += 1
        sequence.parent, sequence.num_blocks = key, block + 1
        self._send(PersistWant(request.request_id, request.attempt, self._engine, self._next_want))
        self._next_want += 1

    def _copy_out(self, message: PersistSlot) -> None:
        """D2H: a full block into the granted slot."""
        running = self._requests[message.request_id]  # it does not end before its blocks are handed over
        sequence, block, key, parent = running.copying.pop(message.block)
        self._memory.copy_out(sequence.kv, block * self._layout.block_tokens, message.slot)
        running.num_copied_out += 1
        request = running.request
        ready = PersistReady(
            request.request_id,
            request.attempt,
            self._engine,
            request.trajectory_id,
            request.weights_version,
            message.slot,
            key,
            parent,
        )
        self._send(ready)

    # a request ends --------------------------------------------------------------------------------------------------

    def _cancel(self, request_id: str) -> None:
        running = self._requests.get(request_id)
        if running is None:
            self._cancelled_early.append(request_id)
            return
        running.cancelled = True
        if running.loaded:
            for sequence in running.sequences:
                sequence.done = sequence.done or "cancelled"
            self._finish_if_over(running)
        elif not running.loading:  # else it ends when its slots are read
            self._send(CloseSink(request_id, running.request.attempt))

    def _finish_if_over(self, running: _Running) -> None:
        """Ends a request when every sample has and the index knows all its blocks: its next turn will hit them."""
        if running.loaded and not running.unregistered and all(s.done for s in running.sequences):
            self._end(running, "cancelled" if running.cancelled else "")

    def _end(self, running: _Running, reason: str) -> None:
        request = running.request
        if self._requests.pop(request.request_id, None) is None:
            return
        for each in running.sequences:
            self._memory.free(each.kv)
        now = time.time()
        layout = self._layout
        facts = {
            **running.facts,
            "finished_s": now,
            "decode_h2d_bytes": request.prompt_tokens * layout.token_bytes if running.loaded else 0,
            "decode_d2h_bytes": running.num_copied_out * layout.full_block_bytes,
            "snic_write_bytes": running.num_writes * layout.sealed_bytes,
        }
        for index in range(request.params.num_samples):
            sequence = running.sequences[index] if index < len(running.sequences) else None
            event = StepEvent(
                request.request_id,
                request.attempt,
                index,
                0,
                # all of them once more: the first token came by way of another engine, and may come later than this
                tuple(sequence.generated) if sequence else (),
                tuple(sequence.logprobs) if sequence else (),
                now,
                finished=True,
                reason=reason or (sequence.done if sequence else ""),
                facts=facts,
            )
            self._emit(request.client_id, event)
        self._finished(request.request_id)
