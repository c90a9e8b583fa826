"""The prefill engine's loop: forward batches by compute quota, each layer's KV through the pool."""

import queue
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.base.span_log import Span, SpanLog
from dualpath_ray.base.types import ReadPath
from dualpath_ray.engine.adapter import Adapter
from dualpath_ray.engine.memory import BatchKv, PrefillMemory
from dualpath_ray.engine.request import EngineRequest, StepEvent
from dualpath_ray.engine.sampling import sample
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.scheduler.intra_engine import AttentionPredictor, Chunk, pack_batch
from dualpath_ray.traffic.copies import batch_rows, plan_rows
from dualpath_ray.traffic.messages import (
    Batch,
    BatchDone,
    CloseSource,
    LayerIn,
    OpenSource,
    SourceGone,
    SourceReady,
)


@dataclass(frozen=True, slots=True)
class PrefillLimits:
    """What a forward batch may hold. ``quota_s`` None: no quota, all that fits."""

    layerwise: bool
    quota_s: float | None
    min_chunk_tokens: int
    max_batch_tokens: int
    max_rows: int


@dataclass(slots=True)
class _Running:
    request: EngineRequest
    hit_blocks: int = 0
    slots: tuple[int, ...] = ()
    done_tokens: int = 0
    ready: bool = False
    started_s: float = 0.0
    ready_s: float = 0.0
    queued_s: float = 0.0
    read_s: float = 0.0
    read_bytes: int = 0
    num_chunks: int = 0
    loaded_tokens: int = 0  # H2D, summed over its chunks
    assigned_s: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A forward batch whose cached KV is on its way: of each request the next so many tokens."""

    number: int
    kv: BatchKv
    parts: Sequence[tuple[_Running, int]]

    @property
    def complete(self) -> list[int]:
        """Indices of the requests whose prompt ends in it."""
        return [i for i, (r, n) in enumerate(self.parts) if r.done_tokens + n == r.request.prompt_tokens]


class PrefillLoop:
    """Runs in one thread; everything else talks to it through ``inbox``."""

    def __init__(
        self,
        engine: int,
        adapter: Adapter,
        layout: KvLayout,
        memory: PrefillMemory,
        limits: PrefillLimits,
        predictor: AttentionPredictor,
        send: Callable[[Any], None],
        emit: Callable[[str, StepEvent], None],
        finished: Callable[[str], None],
        urgent_s: float = 0.0,
    ) -> None:
        """Args: urgent_s: before a request's deadline its KV becomes urgent."""
        self._urgent_s = urgent_s
        self._engine, self._adapter, self._layout, self.memory = engine, adapter, layout, memory
        self.limits, self.predictor = limits, predictor
        self._send, self._emit, self._finished = send, emit, finished
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._requests: OrderedDict[str, _Running] = OrderedDict()
        self._num_begun = 0
        self._loading: dict[int, BatchKv] = {}  # by number of the batch: the one that computes, and the next
        self._computing: _Begun | None = None
        self._next: _Begun | None = None
        self._stopped = False
        self.overlapped_pairs = self.layer_pairs = 0
        self.stall_s = 0.0
        self.spans = SpanLog()
        self.num_batches = self.computed_tokens = self.batch_requests = 0
        self.compute_s = self.predicted_s = 0.0  # the latter: attention of a layer, which the quota limits

    # called from other threads ---------------------------------------------------------------------------------------

    def on_link(self, message: Any) -> None:
        """A message of the traffic manager: a layer's arrival goes straight to the batch that waits for it."""
        if not isinstance(message, LayerIn):
            self.inbox.put(message)
        elif (kv := self._loading.get(message.batch)) is not None:
            kv.on_layer_in(message)

    @property
    def num_requests(self) -> int:
        """That are here and not handed over."""
        return len(self._requests)

    def stop(self) -> None:
        self.inbox.put(None)
        for kv in list(self._loading.values()):
            kv.on_layer_in(None)

    # the loop --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``."""
        while self._take_messages(wait=self._next is None and not any(r.ready for r in self._requests.values())):
            batch, self._next = self._next or self._begin(), None
            if batch is not None:
                self._compute(batch)

    def _take_messages(self, wait: bool) -> bool:
        """Take in all that has come. Args: wait: for one at least. Returns: False when it is time to stop."""
        try:
            while not self._stopped:
                message = self.inbox.get(block=wait)
                if message is None:
                    self._stopped = True
                else:
                    self._take_in(message)
                wait = False
        except queue.Empty:
            pass
        return not self._stopped

    def _take_in(self, message: Any) -> None:
        if isinstance(message, EngineRequest):
            self._requests[message.request_id] = _Running(message)
            self._send(
                OpenSource(
                    message.request_id,
                    message.attempt,
                    message.seq,
                    self._engine,
                    message.read_path,
                    list(message.keys[: message.hit_blocks]),
                    list(message.being_written),
                    message.decode_node,
                    message.decode_engine,
                    message.urgent_at_s(self._urgent_s),
                )
            )
        elif isinstance(message, SourceReady):
            running = self._requests.get(message.request_id)
            if running is None or running.request.attempt != message.attempt:
                return
            running.hit_blocks, running.slots = message.hit_blocks, tuple(message.slots)
            running.done_tokens = message.hit_blocks * self._layout.block_tokens
            running.queued_s, running.read_s = message.queued_s, message.read_s
            running.read_bytes = message.read_bytes
            running.ready, running.ready_s = True, time.time()
            self._requests.move_to_end(message.request_id)  # first ready, first computed
        elif isinstance(message, SourceGone):
            running = self._requests.get(message.request_id)
            if running is not None and running.request.attempt == message.attempt:
                del self._requests[message.request_id]
                self._finished(message.request_id)
            self._send(CloseSource(message.request_id, message.attempt))

    def _begin(self) -> _Begun | None:
        """Form a batch of what is ready; its cached KV begins to come."""
        ready = [r for r in self._requests.values() if r.ready]
        if not ready:
            return None
        chunks = [Chunk(r.request.request_id, r.done_tokens, r.request.prompt_tokens - r.done_tokens) for r in ready]
        limits, tokens = self.limits, self._layout.block_tokens
        takes = pack_batch(
            chunks,
            self.predictor,
            limits.quota_s,
            limits.max_batch_tokens,
            limits.max_rows,
            limits.min_chunk_tokens,
        )
        parts = [(self._requests[t.request_id], t.bsz) for t in takes]
        plans = plan_rows(
            [(r.request.read_path, r.hit_blocks * tokens, r.done_tokens, r.done_tokens + n) for r, n in parts]
        )
        assert batch_rows(plans) <= limits.max_rows
        self._num_begun += 1
        number = self._num_begun
        slots = [r.slots if r.request.read_path is ReadPath.PE else () for r, _ in parts]
        kv = self._loading[number] = self.memory.batch(number, plans, slots, self._begin_next)
        batch = _Begun(number, kv, parts)
        complete = set(batch.complete)
        items = [
            [r.request.request_id, r.done_tokens, r.done_tokens + n, index in complete]
            for index, (r, n) in enumerate(parts)
        ]
        self._send(Batch(self._engine, number, items))
        for running, _ in parts:
            running.ready = False  # until this part of it is computed
        return batch

    def _begin_next(self) -> None:
        """While a batch computes, all of it being here, the first layers of the next one come.

        Not when a prompt goes on in it: what comes first stays first, and its KV has yet to leave.
        """
        batch = self._computing
        assert batch is not None
        if len(batch.complete) == len(batch.parts) and self._take_messages(wait=False):
            self._next = self._begin()

    def _compute(self, batch: _Begun) -> None:
        started, wall = time.monotonic(), time.time()
        self._computing, parts, complete = batch, batch.parts, batch.complete
        logits = self._adapter.forward(
            [r.request.token_ids[r.done_tokens : r.done_tokens + n].tolist() for r, n in parts],
            [r.done_tokens for r, _ in parts],
            batch.kv,
            complete,
        )
        batch.kv.finish()  # first: were its KV not what it should be, no token would be looked at
        first: dict[str, list[list[float]]] = {}
        for row, index in enumerate(complete):
            request = parts[index][0].request
            picks = [
                sample(logits[row], request.params, self._adapter.description.end_token_ids, s, request.prompt_tokens)
                for s in range(request.params.num_samples)
            ]
            first[request.request_id] = [[token, logprob] for token, logprob in picks]
        del self._loading[batch.number]
        requests = tuple(running.request.request_id for running, _ in parts)
        for layer, (start_s, stop_s) in enumerate(batch.kv.times.compute):
            self.spans.add(Span("prefill_layer", start_s, stop_s, requests, "", layer))
        for running, count in parts:
            running.loaded_tokens += running.done_tokens
            running.done_tokens += count
            running.num_chunks += 1
            running.started_s = running.started_s or wall
            running.ready = True
        ended = [parts[i][0] for i in complete]
        now = time.time()
        facts = {r.request.request_id: self._facts(r, now) for r in ended}
        self._send(BatchDone(self._engine, batch.number, first, facts))
        self._account(batch, started)
        for running in ended:
            self._hand_over(running, first[running.request.request_id], now)

    def _account(self, batch: _Begun, started: float) -> None:
        if batch.kv.loads:
            overlapped, pairs = batch.kv.times.overlapped_pairs()
            self.overlapped_pairs += overlapped
            self.layer_pairs += pairs
            self.stall_s += batch.kv.times.stall_s
        self.num_batches += 1
        self.computed_tokens += sum(n for _, n in batch.parts)
        self.batch_requests += len(batch.parts)
        self.predicted_s += sum(self.predictor.predict_s(r.done_tokens - n, n) for r, n in batch.parts)
        self.compute_s += time.monotonic() - started

    def _hand_over(self, running: _Running, first: list[list[float]], now_s: float) -> None:
        """The first tokens go to the client from here: they need not wait for the decode side."""
        request = running.request
        if self._requests.get(request.request_id) is not running:
            return  # it was given up while it waited for its turn
        del self._requests[request.request_id]
        for index, (token, logprob) in enumerate(first):
            event = StepEvent(request.request_id, request.attempt, index, 0, (int(token),), (logprob,), now_s)
            self._emit(request.client_id, event)
        self._finished(request.request_id)

    def _facts(self, running: _Running, now_s: float) -> dict[str, float]:
        layout = self._layout
        computed = running.done_tokens - running.hit_blocks * layout.block_tokens
        return {
            "assigned_s": running.assigned_s,
            "source_ready_s": running.ready_s,
            "prefill_start_s": running.started_s,
            "prefill_end_s": now_s,
            "read_queued_s": running.queued_s,
            "read_s": running.read_s,
            "snic_read_bytes": running.read_bytes,
            "prefill_h2d_bytes": running.loaded_tokens * layout.token_bytes,
            "prefill_d2h_bytes": computed * layout.token_bytes,
            "num_chunks": running.num_chunks,
        }
