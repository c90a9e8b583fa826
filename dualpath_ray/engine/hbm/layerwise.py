"""A forward batch's KV on a GPU engine: three layers of it are in HBM, one that computes, one that comes and one that leaves.

Three streams of the GPU, tied together by events: copies in (H2D), the model, copies out (D2H). The thread that runs the
model issues all of them, whenever the model asks for a layer or has filled one: two threads that call the driver wait for
one another (measured: twice the time for a copy's call). The first layers of the next batch come while the last ones of
this one compute, so that copies never pause between batches. Without layerwise all layers are in HBM at once.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch

from dualpath_ray.base.errors import TransportError
from dualpath_ray.engine.hbm.pool_access import PoolAccess
from dualpath_ray.engine.hbm.port import BlockList
from dualpath_ray.engine.hbm.ring import LayerRing
from dualpath_ray.engine.meter import KvMeter, LayerTimes
from dualpath_ray.engine.regions import Regions
from dualpath_ray.traffic.copies import ChunkPlan
from dualpath_ray.traffic.messages import LayerIn, LayerOut

NUM_BUFFERS = 3  # layers of a batch in HBM


class HbmBatches:
    """PrefillMemory of a GPU engine."""

    def __init__(self, access: PoolAccess, engine: int, layerwise: bool, send: Callable[[LayerOut], None]) -> None:
        self.access, self.engine, self.layerwise, self.send = access, engine, layerwise, send
        self.copies_in, self.copies_out = torch.cuda.Stream(), torch.cuda.Stream()
        self.meter = KvMeter()
        layout = access.layout
        count = min(NUM_BUFFERS, layout.num_layers) if layerwise else layout.num_layers
        self.ring = LayerRing(count, layout.bytes_per_token_layer, self.copies_in, self.meter)
        self._last: HbmBatchKv | None = None

    def batch(
        self,
        number: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        loaded: Callable[[], None] = lambda: None,
    ) -> "HbmBatchKv":
        before, self._last = self._last, HbmBatchKv(self, number, plans, hit_slots, loaded)
        if before is not None:
            before.next = self._last
        return self._last


class HbmBatchKv:
    """HbmKv of one forward batch (see engine/model.py), and BatchKv (engine/memory.py)."""

    def __init__(
        self,
        memory: HbmBatches,
        batch: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        loaded: Callable[[], None],
    ) -> None:
        """The model's stream is the one that is current here."""
        self._access, self._way, self._ring = memory.access, memory.access.way, memory.ring
        self._in, self._out, self._compute = memory.copies_in, memory.copies_out, torch.cuda.current_stream()
        self._engine, self._batch, self._layout = memory.engine, batch, memory.access.layout
        self._plans, self._layerwise, self._send = list(plans), memory.layerwise, memory.send
        ends = list(accumulate(plan.stop for plan in self._plans))
        self.first_rows = [0, *ends[:-1]]
        self._num_rows = ends[-1]
        self.next: HbmBatchKv | None = None  # it was begun while this one computes
        self._tell_loaded: Callable[[], None] | None = loaded if memory.layerwise else None
        self._blocks = self._prepared(hit_slots)
        self._regions = Regions()
        self._staged = any(p.start > p.local_tokens for p in self._plans)
        self._buffers: deque[torch.Tensor] = deque()  # of the layers that are in HBM
        self._given = 0  # layers whose buffers are free again
        self._loaded: list[torch.cuda.Event] = []  # of each layer whose copies in have been issued
        self._written: list[torch.cuda.Event] = []  # of each layer whose new rows the model fills in
        self._computed: list[torch.cuda.Event] = []  # of each layer whose attention has been issued
        self._left: list[torch.cuda.Event] = []  # of each layer whose copies out have been issued
        self._may_leave = memory.layerwise
        with torch.cuda.stream(self._in):
            self._times = _Times()
        self.times = LayerTimes()
        self.loads = any(p.start for p in self._plans)
        self._leaving: queue.SimpleQueue[torch.cuda.Event | None] = queue.SimpleQueue()
        self._failure: Exception | None = None
        self._teller = threading.Thread(target=self._tell, name="kv-teller", daemon=True)
        self._teller.start()
        self._issue()

    def on_layer_in(self, message: LayerIn | None) -> None:
        """A layer's cached rows are in the pool; None when the link is gone."""
        self._regions.put(message)

    def _prepared(self, hit_slots: Sequence[Sequence[int]]) -> BlockList:
        """The hit blocks of all requests, from their slots to their rows of a buffer that stands at address 0."""
        size, per_token = self._layout.block_tokens, self._layout.bytes_per_token_layer
        rows = [
            first + size * np.arange(plan.local_tokens // size)
            for plan, first in zip(self._plans, self.first_rows, strict=True)
        ]
        slots = [np.array(s[: len(r)], np.int64) for s, r in zip(hit_slots, rows, strict=True)]
        device = np.concatenate(rows).astype(np.uint64) * np.uint64(per_token)
        host = self._access.layer_blocks(np.concatenate(slots))
        with torch.cuda.stream(self._in):
            return self._way.prepare(host, device, self._layout.layer_block_bytes)

    # compute thread: what can be issued is ---------------------------------------------------------------------------

    def _issue(self) -> list[int]:
        """Copies out, which make room, then copies in: of all layers that have what they need. Never waits.

        Returns: layers whose regions would let it go on.
        """
        missing = []
        while self._may_leave and len(self._left) < len(self._written):
            region = self._regions.get(len(self._left))
            if region is None:
                missing.append(len(self._left))
                break
            self._copy_out(len(self._left), region.offset)
        while self._given < min(len(self._computed), len(self._left)):
            self._ring.give(self._computed[self._given], self._left[self._given])
            self._buffers.popleft()
            self._given += 1
        while len(self._loaded) < self._layout.num_layers:
            region = self._regions.get(len(self._loaded)) if self._staged else None
            if self._staged and region is None:
                missing.append(len(self._loaded))
                break
            buffer = self._ring.take(self._num_rows)
            if buffer is None:
                break
            self._buffers.append(buffer)
            self._copy_in(len(self._loaded), buffer, region.offset if region else 0)
        if self.next is not None:
            self.next._issue()
        return missing

    def _issue_until(self, issued: Callable[[], bool]) -> None:
        """Issue, and wait for the regions that are missing."""
        missing = self._issue()
        while not issued():
            assert missing, "nothing is missing, and yet nothing can be issued"
            try:
                self._regions.wait_any(missing)
            except TransportError as error:
                raise self._failure or error from error  # what the teller has seen is the cause
            missing = self._issue()

    def _buffer(self, layer: int) -> torch.Tensor:
        return self._buffers[layer - self._given]

    def _copy_in(self, layer: int, buffer: torch.Tensor, region: int) -> None:
        """H2D: hit blocks from their slots, and the rows that came over the CNIC."""
        layout = self._layout
        with torch.cuda.stream(self._in):
            began = _mark()
            if len(self._blocks.host):
                self._way.to_device(self._blocks, layer * layout.layer_block_bytes, buffer.data_ptr())
            for plan, first in zip(self._plans, self.first_rows, strict=True):
                if staged := plan.start - plan.local_tokens:
                    rows = self._rows(region + plan.first_row * layout.bytes_per_token_layer, staged)
                    target = buffer[first + plan.local_tokens : first + plan.start]
                    target.copy_(rows, non_blocking=True)
            ended = _mark()
        self._times.load.append((began, ended))
        self._loaded.append(ended)

    def _copy_out(self, layer: int, region: int) -> None:
        """D2H: the new rows into the staging region; from there they go to the DE buffer."""
        buffer, left = self._buffer(layer), torch.cuda.Event(blocking=True)
        with torch.cuda.stream(self._out):
            self._out.wait_event(self._written[layer])
            for plan, first in zip(self._plans, self.first_rows, strict=True):
                target = region + plan.new_row * self._layout.bytes_per_token_layer
                new = buffer[first + plan.start : first + plan.stop]
                self._rows(target, plan.stop - plan.start).copy_(new, non_blocking=True)
            left.record()
        self._left.append(left)
        self._leaving.put(left)

    def _rows(self, offset: int, count: int) -> torch.Tensor:
        """Rows of a staging region, [count, bytes_per_token_layer]."""
        per_token = self._layout.bytes_per_token_layer
        return self._access.tensor[offset : offset + count * per_token].view(count, per_token)

    # compute thread: what the model asks -----------------------------------------------------------------------------

    def begin_layer(self, layer: int) -> torch.Tensor:
        if layer:
            self._end_compute()
        first = layer if self._layerwise else self._layout.num_layers - 1
        self._issue_until(lambda: len(self._loaded) > first)
        self._compute.wait_event(self._loaded[first])
        self._times.begun.append(_mark())
        return self._buffer(layer)

    def _end_compute(self) -> None:
        """A layer's attention has been issued: its buffer is free when that is done, and its new rows have left."""
        self._computed.append(_mark())

    def end_layer(self, layer: int) -> None:
        assert layer == len(self._written)
        written = torch.cuda.Event()
        written.record()
        self._written.append(written)
        self._issue()
        if self._tell_loaded is not None and len(self._loaded) == self._layout.num_layers:
            tell, self._tell_loaded = self._tell_loaded, None
            tell()

    def finish(self) -> None:
        self._end_compute()
        self._may_leave = True
        self._issue_until(lambda: len(self._left) == self._layout.num_layers)
        self._teller.join()
        self._compute.synchronize()
        if self._failure is not None:
            raise self._failure
        self.times = self._times.read(self._computed, time.monotonic())

    def abandon(self) -> None:
        """The forward failed: nobody will call ``finish``."""
        self._leaving.put(None)
        torch.cuda.synchronize()
        self._buffers.clear()
        if self.next is not None:
            self.next.abandon()
        self._ring.reset()

    # teller thread ---------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """The traffic manager hears of each layer when its new rows are in the region."""
        try:
            for layer in range(self._layout.num_layers):
                left = self._leaving.get()
                if left is None:
                    return
                left.synchronize()
                self._way.check()
                self._send(LayerOut(self._engine, self._batch, layer))
        except Exception as error:  # the traffic manager is gone, or the GPU
            self._failure = error
            self._regions.put(None)  # no region will come any more: whoever waits for one must hear of it


def _mark() -> torch.cuda.Event:
    """An event on the current stream."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class _Times:
    """When each layer was loaded and computed, by the GPU's clock."""

    def __init__(self) -> None:
        self.load: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.begun: list[torch.cuda.Event] = []
        self._began = _mark()

    def read(self, ended: Sequence[torch.cuda.Event], now_s: float) -> LayerTimes:
        """All events have happened, the last of ``ended`` just now."""

        def at(event: torch.cuda.Event) -> float:
            return self._began.elapsed_time(event) / 1e3

        load = [(at(first), at(last)) for first, last in self.load]
        compute = [(at(first), at(last)) for first, last in zip(self.begun, ended, strict=True)]
        # Between two layers' attention the model goes on; it stands still when the next layer comes only after that.
        stall = sum(max(0.0, begun - before) for (begun, _), (_, before) in zip(compute[1:], compute, strict=False))
        start = now_s - compute[-1][1]
        load, compute = ([(first + start, last + start) for first, last in spans] for spans in (load, compute))
        return LayerTimes(load, compute, stall)
