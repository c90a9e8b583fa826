"""A forward batch's KV on a CPU engine: layer l + 1 is fetched while layer l computes, and dropped when used.

A loader thread waits for the traffic manager's word that a layer's cached rows are in the pool, copies them (H2D) into
the engine's memory, and runs ahead by one layer: while the last one computes, the first of the next batch comes. Without
layerwise it brings all layers before the first one computes, and the new KV leaves after the last.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence

import torch

from dualpath_ray.engine.meter import KvMeter, LayerTimes
from dualpath_ray.engine.regions import Regions
from dualpath_ray.kv.segment import Segment
from dualpath_ray.traffic.copies import ChunkPlan
from dualpath_ray.traffic.messages import LayerIn, LayerOut


class DramBatches:
    """PrefillMemory of a CPU engine."""

    def __init__(self, segment: Segment, engine: int, layerwise: bool, send: Callable[[LayerOut], None]) -> None:
        self._segment, self._engine, self._layerwise, self._send = segment, engine, layerwise, send
        self.meter = KvMeter()

    def batch(
        self,
        number: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        loaded: Callable[[], None] = lambda: None,
    ) -> "DramBatchKv":
        return DramBatchKv(
            self._segment, self._engine, number, plans, hit_slots, loaded, self._layerwise, self._send, self.meter
        )


class DramBatchKv:
    """LayerKv of one forward batch (see engine/model.py), and BatchKv (engine/memory.py)."""

    def __init__(
        self,
        segment: Segment,
        engine: int,
        batch: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        loaded: Callable[[], None],
        layerwise: bool,
        send: Callable[[LayerOut], None],
        meter: KvMeter,
    ) -> None:
        """Args: hit_slots: per request the PE slots of its hit blocks (empty on the DE path)."""
        self._segment, self._engine, self._batch = segment, engine, batch
        self._layout = segment.layout
        self._plans, self._hit_slots, self._layerwise = list(plans), [list(s) for s in hit_slots], layerwise
        self._tell_loaded, self._send, self._meter = loaded, send, meter
        self._loaded: queue.SimpleQueue[list[torch.Tensor] | Exception] = queue.SimpleQueue()
        self._room = threading.Semaphore(1 if layerwise else self._layout.num_layers)
        self._regions = Regions()
        self._staged = any(p.start > p.local_tokens for p in self._plans)
        self._held: list[list[torch.Tensor]] = []  # not layerwise: every layer's rows until the forward is over
        self._rows: list[torch.Tensor] = []
        self._waiting: list[list[torch.Tensor]] = []
        self.times = LayerTimes()
        self.loads = any(p.start for p in self._plans)  # else there is nothing cached to bring
        self._thread = threading.Thread(target=self._load_all, name="kv-loader", daemon=True)
        self._thread.start()

    def on_layer_in(self, message: LayerIn | None) -> None:
        """A layer's cached rows are in the pool; None when the link is gone."""
        self._regions.put(message)

    # loader thread ---------------------------------------------------------------------------------------------------

    def _load_all(self) -> None:
        try:
            self._load_layers()
        except Exception as error:  # the compute thread waits for these layers: it must hear why they do not come
            self._loaded.put(error)

    def _load_layers(self) -> None:
        for layer in range(self._layout.num_layers):
            self._room.acquire()
            started, offset = time.monotonic(), 0
            if self._staged:  # else the hit stands in PE slots: no need to wait for a region
                arrived = self._regions.wait(layer)
                started, offset = arrived.started_s, arrived.offset
            rows = [self._gather(layer, i, offset) for i in range(len(self._plans))]
            self.times.load.append((started, time.monotonic()))
            self._loaded.put(rows)

    def _gather(self, layer: int, index: int, region: int) -> torch.Tensor:
        """H2D: the cached rows of one request and layer, copied once, with room for the new ones."""
        plan, per_token = self._plans[index], self._layout.bytes_per_token_layer
        rows = self._meter.array(plan.stop, per_token)
        if plan.local_tokens:
            slots = self._hit_slots[index]
            start = self._layout.layer_offset(layer)
            blocks = self._segment.slots[:, start : start + self._layout.layer_block_bytes]
            target = rows[: plan.local_tokens].reshape(len(slots), self._layout.layer_block_bytes)
            for number, slot in enumerate(slots):
                target[number] = blocks[slot]
        staged = plan.start - plan.local_tokens
        if staged:
            first = region + plan.first_row * per_token
            rows[plan.local_tokens : plan.start] = self._segment.bytes[first : first + staged * per_token].reshape(
                staged, per_token
            )
        return torch.from_numpy(rows)

    # compute thread --------------------------------------------------------------------------------------------------

    def begin_layer(self, layer: int) -> list[torch.Tensor]:
        now = time.monotonic()
        if self.times.compute:
            self.times.compute[-1] = (self.times.compute[-1][0], now)
        self._rows = []  # the layer before is used
        if not self._layerwise and layer == 0:
            self._waiting = [self._next_loaded() for _ in range(self._layout.num_layers)]
        self._rows = self._next_loaded() if self._layerwise else self._waiting[layer]
        loaded = time.monotonic()
        self.times.compute.append((loaded, loaded))
        self.times.stall_s += loaded - now
        if self._layerwise:
            self._room.release()  # this layer computes: the next may come
            if layer == self._layout.num_layers - 1:
                self._tell_loaded()  # of the next batch
        return self._rows

    def _next_loaded(self) -> list[torch.Tensor]:
        rows = self._loaded.get()
        if isinstance(rows, Exception):
            raise rows
        return rows

    def end_layer(self, layer: int) -> None:
        if self._layerwise:
            self._push(layer, self._rows)
        else:
            self._held.append(self._rows)

    def finish(self) -> None:
        """The forward is over."""
        now = time.monotonic()
        self.times.compute[-1] = (self.times.compute[-1][0], now)
        for layer, rows in enumerate(self._held):
            self._push(layer, rows)
        self._held, self._waiting, self._rows = [], [], []

    def _push(self, layer: int, rows: list[torch.Tensor]) -> None:
        """D2H: the new rows into the staging region; from there they go to the DE buffer."""
        per_token = self._layout.bytes_per_token_layer
        region = self._regions.wait(layer)
        for plan, row in zip(self._plans, rows, strict=True):
            first = region.offset + plan.new_row * per_token
            count = plan.stop - plan.start
            target = self._segment.bytes[first : first + count * per_token].reshape(count, per_token)
            target[:] = row[plan.start : plan.stop].numpy()
        self._send(LayerOut(self._engine, self._batch, layer))
