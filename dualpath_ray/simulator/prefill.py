"""A simulated prefill engine: batches by the live packing rule, KV moved beside or before the computation (section 4.1)."""

from collections import deque
from collections.abc import Callable

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.intra_engine import Chunk, pack_batch
from dualpath_ray.simulator.costs import PrefillModel
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.node import SimNode, move
from dualpath_ray.simulator.processor import Processor
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.traffic.nic import Direction

_Item = tuple[SimRequest, int]  # with the new tokens that a batch computes of it


class PrefillEngine:
    """One engine. A request is added once its hit stands in a buffer; ``first_token`` is called when it is through."""

    def __init__(
        self,
        loop: EventLoop,
        spec: ClusterSpec,
        node: SimNode,
        index: int,
        processor: Processor,
        model: PrefillModel,
        first_token: Callable[[SimRequest], None],
    ) -> None:
        self.node, self.index, self.engine_id = node, index, f"{node.name}/e{index}"
        self._loop, self._spec, self._processor, self._model = loop, spec, processor, model
        self._first_token = first_token
        self._ready: deque[SimRequest] = deque()
        self._batch: list[_Item] = []
        self._loaded_s = 0.0
        self._work_s = 0.0
        self._token_bytes = spec.layout.token_bytes
        self._layers = spec.layout.num_layers
        cnic = node.cnics[index]
        self.cnic_in, self.cnic_out = cnic[Direction.IN], cnic[Direction.OUT]
        self._h2d_links = (self.cnic_out, self.cnic_in, node.dram) if spec.rates.loopback else ()
        self.num_batches = 0
        self.stall_s = self.batch_s = 0.0
        self._started_s = 0.0

    def add(self, request: SimRequest) -> None:
        """Its hit is loaded: it may be computed."""
        self._ready.append(request)
        if not self._batch:
            self._start_batch()

    def _start_batch(self) -> None:
        spec, ready = self._spec, self._ready
        chunks = (Chunk("", r.done_tokens, r.request.prompt_tokens - r.done_tokens) for r in ready)
        takes = pack_batch(
            chunks, self._model, spec.quota_s, spec.max_batch_tokens, spec.max_rows, spec.min_chunk_tokens
        )
        batch = self._batch = [(ready[i], take.bsz) for i, take in enumerate(takes)]
        now = self._started_s = self._loop.now_s
        self._work_s = self._model.batch_s([(r.done_tokens, new) for r, new in batch])
        loaded_s = now
        for request, _ in batch:
            if not request.num_chunks:
                request.prefill_start_s = now
            end_s = self._load(request, now)
            if end_s > loaded_s:
                loaded_s = end_s
        self._loaded_s = loaded_s
        if spec.layerwise:
            for request, new in batch:
                self._push(request, new, now)
            first_layer_s = now + (loaded_s - now) / self._layers
        else:
            first_layer_s = loaded_s
        if first_layer_s > now:
            self._loop.at(first_layer_s, self._compute)
        else:
            self._compute(None)

    def _load(self, request: SimRequest, now_s: float) -> float:
        """Cached KV into the engine. Returns: when the last layer of it is there."""
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

    def _push(self, request: SimRequest, new_tokens: int, now_s: float) -> None:
        """New KV, and on the PE read path once the hit, to the DE buffer."""
        tokens = new_tokens
        if request.path is ReadPath.PE and not request.num_chunks:
            tokens += request.request.hit_tokens
        nbytes = tokens * self._token_bytes
        request.cnic_out_bytes += nbytes
        decode = request.decode
        end_s = move((self.cnic_out, decode.cnic_in, decode.node.dram), nbytes, now_s)
        if end_s > request.pushed_s:
            request.pushed_s = end_s

    def _compute(self, _: None) -> None:
        self._processor.start(self._work_s, self._on_computed)

    def _on_computed(self, _: None) -> None:
        now = self._loop.now_s
        # Layer after layer: the last one computes only after it has been loaded.
        end_s = self._loaded_s + self._work_s / self._layers if self._spec.layerwise else now
        if end_s > now:
            self._loop.at(end_s, self._end_batch)
        else:
            self._end_batch(None)

    def _end_batch(self, _: None) -> None:
        now, spec = self._loop.now_s, self._spec
        batch, self._batch = self._batch, []
        self.num_batches += 1
        self.batch_s += now - self._started_s
        self.stall_s += max(0.0, now - self._started_s - self._work_s)
        rate = spec.rates.cnic
        for request, new in batch:
            if spec.layerwise:  # the last layer's KV leaves after it has been computed
                last_layer = new * self._token_bytes / self._layers / rate if rate and not spec.oracle else 0.0
                request.pushed_s = max(request.pushed_s, now + last_layer)
            else:
                self._push(request, new, now)
            request.done_tokens += new
            request.num_chunks += 1
            if request.done_tokens == request.request.prompt_tokens:
                self._ready.popleft()  # a batch covers the head of the queue, and only its last request is cut
                request.first_token_s = now
                self._first_token(request)
        if self._ready and not self._batch:
            self._start_batch()
