"""A forward batch's KV on a GPU engine: three layers of it are in HBM, one that computes, one that comes and one that leaves.

Three streams of the GPU, tied together by events: copies in (H2D), the model, copies out (D2H). The thread that runs the
model issues all of them, whenever the model asks for a layer or has filled one: two threads that call the driver wait for
one another (measured: twice the time for a copy's call). Without layerwise all layers are in HBM at once.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import torch

from dualpath_ray.base.errors import TransportError
from dualpath_ray.engine.hbm.pool_access import PoolAccess
from dualpath_ray.engine.hbm.port import BlockList
from dualpath_ray.engine.meter import KvMeter, LayerTimes
from dualpath_ray.engine.regions import Regions
from dualpath_ray.traffic.copies import ChunkPlan
from dualpath_ray.traffic.messages import LayerIn, LayerOut

NUM_BUFFERS = 3  # layers of a batch in HBM


class HbmBatches:
    """PrefillMemory of a GPU engine."""

    def __init__(self, access: PoolAccess, engine: int, layerwise: bool, send: Callable[[LayerOut], None]) -> None:
        self._access, self._engine, self._layerwise, self._send = access, engine, layerwise, send
        self._streams = torch.cuda.Stream(), torch.cuda.Stream()
        self.meter = KvMeter()

    def batch(self, number: int, plans: Sequence[ChunkPlan], hit_slots: Sequence[Sequence[int]]) -> "HbmBatchKv":
        return HbmBatchKv(
            self._access, self._streams, self._engine, number, plans, hit_slots, self._layerwise, self._send, self.meter
        )


class HbmBatchKv:
    """HbmKv of one forward batch (see engine/model.py), and BatchKv (engine/memory.py)."""

    def __init__(
        self,
        access: PoolAccess,
        streams: tuple[torch.cuda.Stream, torch.cuda.Stream],
        engine: int,
        batch: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        layerwise: bool,
        send: Callable[[LayerOut], None],
        meter: KvMeter,
    ) -> None:
        """Args: streams: of copies in and of copies out; the model's is the one that is current here."""
        self._access, self._way, self._meter = access, access.way, meter
        (self._in, self._out), self._compute = streams, torch.cuda.current_stream()
        self._engine, self._batch, self._layout = engine, batch, access.layout
        self._plans, self._layerwise, self._send = list(plans), layerwise, send
        ends = list(accumulate(plan.stop for plan in self._plans))
        self.first_rows = [0, *ends[:-1]]
        per_token, layers = self._layout.bytes_per_token_layer, self._layout.num_layers
        count = min(NUM_BUFFERS, layers) if layerwise else layers
        self._buffers = [torch.empty((ends[-1], per_token), dtype=torch.uint8, device="cuda") for _ in range(count)]
        self._nbytes = sum(buffer.nbytes for buffer in self._buffers)
        meter.add(self._nbytes)
        self._in.wait_stream(self._compute)  # the memory may be some that the model has just used
        self._blocks = [self._prepared(buffer, hit_slots) for buffer in self._buffers]
        self._regions = Regions()
        self._staged = any(p.start > p.local_tokens for p in self._plans)
        self._loaded: list[torch.cuda.Event] = []  # of each layer whose copies in have been issued
        self._written: list[torch.cuda.Event] = []  # of each layer whose new rows the model fills in
        self._computed: list[torch.cuda.Event] = []  # of each layer whose attention has been issued
        self._left: list[torch.cuda.Event] = []  # of each layer whose copies out have been issued
        self._may_leave = layerwise
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

    def _prepared(self, buffer: torch.Tensor, hit_slots: Sequence[Sequence[int]]) -> BlockList:
        """The hit blocks of all requests, from their slots to their rows."""
        size, per_token = self._layout.block_tokens, self._layout.bytes_per_token_layer
        rows = [
            first + size * np.arange(plan.local_tokens // size)
            for plan, first in zip(self._plans, self.first_rows, strict=True)
        ]
        slots = [np.array(s[: len(r)], np.int64) for s, r in zip(hit_slots, rows, strict=True)]
        device = np.concatenate(rows).astype(np.uint64) * np.uint64(per_token) + np.uint64(buffer.data_ptr())
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
        while len(self._loaded) < self._layout.num_layers:
            layer = len(self._loaded)
            before = layer - len(self._buffers)  # whose buffer it takes
            if before >= min(len(self._computed), len(self._left)):
                break
            region = self._regions.get(layer) if self._staged else None
            if self._staged and region is None:
                missing.append(layer)
                break
            if before >= 0:
                self._in.wait_event(self._computed[before])
                self._in.wait_event(self._left[before])
            self._copy_in(layer, region.offset if region else 0)
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

    def _copy_in(self, layer: int, region: int) -> None:
        """H2D: hit blocks from their slots, and the rows that came over the CNIC."""
        index, layout = layer % len(self._buffers), self._layout
        with torch.cuda.stream(self._in):
            began = _mark()
            if len(self._blocks[index].host):
                self._way.to_device(self._blocks[index], host_offset=layer * layout.layer_block_bytes)
            for plan, first in zip(self._plans, self.first_rows, strict=True):
                if staged := plan.start - plan.local_tokens:
                    rows = self._rows(region + plan.first_row * layout.bytes_per_token_layer, staged)
                    target = self._buffers[index][first + plan.local_tokens : first + plan.start]
                    target.copy_(rows, non_blocking=True)
            ended = _mark()
        self._times.load.append((began, ended))
        self._loaded.append(ended)

    def _copy_out(self, layer: int, region: int) -> None:
        """D2H: the new rows into the staging region; from there they go to the DE buffer."""
        buffer, left = self._buffers[layer % len(self._buffers)], torch.cuda.Event(blocking=True)
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
        return self._buffers[layer % len(self._buffers)]

    def _end_compute(self) -> None:
        """A layer's attention has been issued: its buffer is free when that is done, and its new rows have left."""
        self._computed.append(_mark())

    def end_layer(self, layer: int) -> None:
        assert layer == len(self._written)
        written = torch.cuda.Event()
        written.record()
        self._written.append(written)
        self._issue()

    def finish(self) -> None:
        self._end_compute()
        self._may_leave = True
        self._issue_until(lambda: len(self._left) == self._layout.num_layers)
        self._teller.join()
        self._compute.synchronize()
        self._meter.add(-self._nbytes)
        if self._failure is not None:
            raise self._failure
        self.times = self._times.read(self._computed, time.monotonic())
        self._buffers.clear()

    def abandon(self) -> None:
        """The forward failed: nobody will call ``finish``."""
        self._leaving.put(None)
        torch.cuda.synchronize()
        self._meter.add(-self._nbytes)
        self._buffers.clear()

    # teller thread ---------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """The traffic manager hears of each layer when its new rows are in the region."""
        try:
            for layer in range(self._layout.num_layers):
                left = self._leaving.get()
                if left is None:
                    return
                left.synchronize()
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
