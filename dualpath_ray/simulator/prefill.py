"""Simulated prefill: batches by the live packing rule, KV moved beside or before the computation (section 4.1).

Engines that share a copy of the weights compute in step: data-parallel attention must finish together before the FFN
(section 6, within a PE). An engine with its own copy is a group of one.
"""

from collections import deque
from collections.abc import Callable, Sequence

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.intra_engine import Chunk, pack_batch
from dualpath_ray.simulator.costs import PrefillModel
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.node import SimNode, move
from dualpath_ray.simulator.processor import Processor
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.traffic.nic import Direction


class PrefillEngine:
    """One engine's queue, its part of a batch, and the moves of KV that this takes."""

    def __init__(self, spec: ClusterSpec, node: SimNode, index: int, model: PrefillModel) -> None:
        self.node, self.index, self.engine_id = node, index, f"{node.name}/e{index}"
        self._spec, self._model = spec, model
        self.ready: deque[SimRequest] = deque()
        self.batch: list[tuple[SimRequest, int]] = []  # with the new tokens that it computes of each
        self._token_bytes = spec.layout.token_bytes
        cnic = node.cnics[index]
        self.cnic_in, self.cnic_out = cnic[Direction.IN], cnic[Direction.OUT]
        self._h2d_links = node.h2d_links[index]
        self.group: PrefillGroup

    def add(self, request: SimRequest) -> None:
        """Its hit is loaded: it may be computed."""
        self.ready.append(request)
        self.group.wake()

    def pack(self) -> list[tuple[int, int]]:
        """Choose the next batch. Returns: (cached tokens, new tokens) of each of its requests."""
        spec, ready = self._spec, self.ready
        chunks = (Chunk("", r.done_tokens, r.request.prompt_tokens - r.done_tokens) for r in ready)
        takes = pack_batch(
            chunks, self._model, spec.quota_s, spec.max_batch_tokens, spec.max_rows, spec.min_chunk_tokens
        )
        self.batch = [(ready[i], take.bsz) for i, take in enumerate(takes)]
        return [(request.done_tokens, new) for request, new in self.batch]

    def load(self, now_s: float) -> float:
        """Cached KV of the batch into the engine. Returns: when the last layer of it is there."""
        loaded_s = now_s
        for request, _ in self.batch:
            if not request.num_chunks:
                request.prefill_start_s = now_s
            end_s = self._load(request, now_s)
            if end_s > loaded_s:
                loaded_s = end_s
        return loaded_s

    def _load(self, request: SimRequest, now_s: float) -> float:
        hit, size = request.request.hit_tokens, self._token_bytes
        end_s = now_s
        if request.path is ReadPath.PE:
            fetched = (request.done_tokens - hit) * size  # earlier chunks' KV comes back from the DE buffer
            if hit and self._h2d_links:
                end_s = move(self._h2d_links, hit * size, now_s)
        else:
            fetched = request.done_tokens * size
        if fetched:
            request.cnic_in_bytes += fetched
            decode = request.decode
            end_s = max(end_s, move((decode.cnic_out, decode.node.dram, self.cnic_in), fetched, now_s))
        return end_s

    def push(self, now_s: float) -> float:
        """The batch's new KV, and on the PE read path once the hit, to the DE buffers. Returns: when it is there."""
        left_s = now_s
        for request, new_tokens in self.batch:
            tokens = new_tokens
            if request.path is ReadPath.PE and not request.num_chunks:
                tokens += request.request.hit_tokens
            nbytes = tokens * self._token_bytes
            request.cnic_out_bytes += nbytes
            decode = request.decode
            end_s = move((self.cnic_out, decode.cnic_in, decode.node.dram), nbytes, now_s)
            if end_s > request.pushed_s:
                request.pushed_s = end_s
            if end_s > left_s:
                left_s = end_s
        return left_s

    def end(self, now_s: float, s_per_new_token: float) -> list[SimRequest]:
        """The batch is computed. Returns: the requests that are through.

        Args: s_per_new_token: that the last layer's KV takes to leave after it has been computed.
        """
        through = []
        for request, new in self.batch:
            request.pushed_s = max(request.pushed_s, now_s + new * s_per_new_token)
            request.done_tokens += new
            request.num_chunks += 1
            if request.done_tokens == request.request.prompt_tokens:
                self.ready.popleft()  # a batch covers the head of the queue, and only its last request is cut
                request.first_token_s = now_s
                through.append(request)
        self.batch = []
        return through


class PrefillGroup:
    """Engines that compute in step.

    ``first_token`` gets each request whose prefill is over, ``read_over`` each whose hit was read as part of a batch.
    """

    def __init__(
        self,
        loop: EventLoop,
        spec: ClusterSpec,
        engines: Sequence[PrefillEngine],
        processor: Processor,
        model: PrefillModel,
        first_token: Callable[[SimRequest], None],
        read_over: Callable[[SimRequest], None],
    ) -> None:
        self._loop, self._spec, self._processor, self._model = loop, spec, processor, model
        self._engines, self._first_token, self._read_over = engines, first_token, read_over
        self._batches: list[list[tuple[int, int]]] = []
        self._unread = 0  # hits that a batch waits for
        for engine in engines:
            engine.group = self
        self._running = False
        self._loaded_s = self._work_s = self._started_s = 0.0
        self._layers = spec.layout.num_layers
        rate = spec.rates.cnic if not spec.oracle else None
        self._s_per_new_token = spec.layout.bytes_per_token_layer / rate if rate and spec.layerwise else 0.0
        self.attention_s: list[
            tuple[float, float, float]
        ] = []  # of each batch: its start, the slowest engine, the mean
        self.num_batches = 0
        self.stall_s = self.batch_s = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds of computation."""
        return self._processor.busy_s

    def wake(self) -> None:
        """An engine has something to compute; it waits for the batch that runs."""
        if not self._running:
            self._start()

    def _start(self) -> None:
        self._running = True
        self._started_s = self._loop.now_s
        self._batches = [engine.pack() for engine in self._engines if engine.ready]
        if self._spec.prefetch:
            self._begin()
        else:
            self._read()

    def _read(self) -> None:
        """The hits of the batch from storage: without buffers to prefetch into, it waits for them all."""
        batch = [request for engine in self._engines for request, _ in engine.batch]
        unread = [request for request in batch if request.hit_blocks and not request.num_chunks]
        self._unread = len(unread)
        for request in unread:
            request.read_start_s = self._loop.now_s
            reader = request.prefill.node if request.path is ReadPath.PE else request.decode.node
            reader.read(request.hit_blocks * self._spec.layout.sealed_bytes, self._on_read, request)
        if not unread:
            self._begin()

    def _on_read(self, request: SimRequest) -> None:
        self._read_over(request)
        now = self._loop.now_s
        if request.written_s > now:  # a block whose write is under way is waited for
            self._loop.at(request.written_s, self._one_read, request)
        else:
            self._one_read(request)

    def _one_read(self, request: SimRequest) -> None:
        request.ready_s = self._loop.now_s
        self._unread -= 1
        if not self._unread:
            self._begin()

    def _begin(self) -> None:
        """All hits of the batch are in a buffer, or where it is loaded from."""
        now = self._loop.now_s
        self._work_s, slowest_s, mean_s = self._model.in_step(self._batches, len(self._engines))
        self.attention_s.append((now, slowest_s, mean_s))
        loaded_s = now
        for engine in self._engines:
            if engine.batch:
                loaded_s = max(loaded_s, engine.load(now))
        self._loaded_s = loaded_s
        if self._spec.layerwise:
            self._push()
            compute_s = now + (loaded_s - now) / self._layers  # the first layer is there
        else:
            compute_s = loaded_s
        if compute_s > now:
            self._loop.at(compute_s, self._compute)
        else:
            self._compute(None)

    def _push(self) -> float:
        """Returns: when the last of it has left."""
        now = self._loop.now_s
        return max(engine.push(now) for engine in self._engines if engine.batch)

    def _compute(self, _: None) -> None:
        self._processor.start(self._work_s, self._on_computed)

    def _on_computed(self, _: None) -> None:
        now = self._loop.now_s
        # Layer after layer: the last one computes only after it has been loaded.
        end_s = self._loaded_s + self._work_s / self._layers if self._spec.layerwise else now
        if end_s > now:
            self._loop.at(end_s, self._end)
        else:
            self._end(None)

    def _end(self, _: None) -> None:
        now = self._loop.now_s
        self.num_batches += 1
        self.batch_s += now - self._started_s
        self.stall_s += max(0.0, now - self._started_s - self._work_s)
        left_s = now
        if not self._spec.layerwise:
            left_s = self._push()
        for engine in self._engines:
            if engine.batch:
                for request in engine.end(now, self._s_per_new_token):
                    self._first_token(request)
        if left_s > now:  # the next batch needs the room that this one's KV of all layers takes until it has left
            self._loop.at(left_s, self._next)
        else:
            self._next(None)

    def _next(self, _: None) -> None:
        self._running = False
        if any(engine.ready for engine in self._engines):
            self._start()
