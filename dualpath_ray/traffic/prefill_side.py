"""The prefill half of both read paths: from the hit in a buffer, layer by layer through an engine, to the DE buffer.

PE path: the hit is read into PE slots here; after each layer all of its KV, hit and new, goes to the DE buffer.
DE path: the hit stands in the DE buffer; each layer's KV is fetched just before its attention, and only new KV goes back.
A request's PE slots are leased only once its DE buffer is: whoever holds PE slots can go on, so waits never form a circle.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from dualpath_ray.base.types import ReadPath
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.copies import ChunkPlan, join, plan_rows, row_ranges, token_ranges
from dualpath_ray.traffic.hit_reads import HitReads, ResidentBlock, verified_prefix
from dualpath_ray.traffic.messages import (
    Batch,
    BatchDone,
    BatchItem,
    CloseSource,
    LayerIn,
    LayerOut,
    Offer,
    OpenSource,
    PromptDone,
    Revoke,
    Revoked,
    Settled,
    SourceGone,
    SourceReady,
)
from dualpath_ray.traffic.nic import Direction
from dualpath_ray.transport.port import CopyBatch


@dataclass(slots=True)
class _Source:
    """One request at this prefill node."""

    request_id: str
    attempt: int
    opened: OpenSource | None = None
    offer: Offer | None = None
    blocks: list[ResidentBlock] = field(default_factory=list)
    hit_blocks: int = 0
    acquired: bool = False  # its hit blocks are held, or being read
    batches: int = 0  # forward batches of it that are not through
    pushed: bool = False  # its hit blocks have been sent along with a batch
    revoked: bool = False
    revoked_by: str = ""
    closed: bool = False
    opened_s: float = 0.0
    cnic_in_bytes: int = 0
    cnic_out_bytes: int = 0

    @property
    def path(self) -> ReadPath:
        assert self.opened is not None
        return ReadPath(self.opened.read_path)


@dataclass(slots=True)
class _Moves:
    """Descriptors of one batch and one peer for layer 0, offsets in a region counted from the region's start."""

    staged_in: CopyBatch
    staged_out: CopyBatch
    hit_out: CopyBatch

    def at_layer(self, which: CopyBatch, layer_offset: int, region: int | None) -> CopyBatch:
        local = which.local + (region if region is not None else layer_offset)
        return CopyBatch(local, which.remote + layer_offset, which.nbytes)


@dataclass(slots=True)
class _Batch:
    """A forward batch under way: it ends when its forward is over and all its layers' KV has left."""

    message: Batch
    items: list[tuple[BatchItem, _Source]]
    moves: dict[tuple[str, int], _Moves]  # by (decode node, its CNIC)
    done: BatchDone | None = None
    layers_left: int = 0

    @property
    def urgent_at_s(self) -> float | None:
        """Of its most urgent request: a layer of a batch comes and goes together."""
        times = [source.opened.urgent_at_s for _, source in self.items if source.opened is not None]
        return min((at for at in times if at is not None), default=None)


@dataclass(slots=True)
class _Arrival:
    """A layer whose cached rows are on their way."""

    message: LayerIn
    here: bool = False


class StagingRing:
    """Regions of one engine, used layer after layer and batch after batch: at most ``depth`` layers are in flight."""

    def __init__(self, offset: int, region_bytes: int, depth: int) -> None:
        self._offset, self._region_bytes, self._depth = offset, region_bytes, depth
        self._busy = [False] * depth
        self._next = 0
        self.waiting: deque[tuple[_Batch, int]] = deque()
        self.arriving: deque[_Arrival] = deque()  # the engine hears of layers in order, however their copies end

    def take(self) -> tuple[_Batch, int, int] | None:
        """(batch, layer, region index) that may start now, in order; None when all regions are in use."""
        index = self._next % self._depth
        if not self.waiting or self._busy[index]:
            return None
        batch, layer = self.waiting.popleft()
        self._busy[index] = True
        self._next += 1
        return batch, layer, index

    def free(self, index: int) -> None:
        self._busy[index] = False

    @property
    def in_use(self) -> int:
        """Regions that hold a layer."""
        return sum(self._busy)

    def offset(self, index: int) -> int:
        return self._offset + index * self._region_bytes


class PrefillSide:
    """All requests that this node prefills."""

    def __init__(self, context: NodeContext, reads: HitReads, rings: list[StagingRing]) -> None:
        self._context, self._reads, self._rings = context, reads, rings
        self._sources: dict[tuple[str, int], _Source] = {}  # by request and attempt
        self._computing: dict[tuple[int, str], _Source] = {}  # by engine and request: what a batch's items name
        self._waiting: deque[_Source] = deque()  # for PE slots, in order
        self._batches: dict[tuple[int, int], _Batch] = {}
        self._regions: dict[tuple[int, int, int], int] = {}  # (engine, batch, layer) -> region index

    # a request opens -------------------------------------------------------------------------------------------------

    @property
    def num_requests(self) -> int:
        """Requests that this node computes or has heard of."""
        return len(self._sources)

    def on_open(self, message: OpenSource) -> None:
        source = self._source(message.request_id, message.attempt)
        source.opened, source.opened_s = message, self._context.now_s
        self._computing[message.engine, message.request_id] = source
        if source.revoked:
            self._context.send(message.engine, SourceGone(message.request_id, message.attempt))
        self._start(source)

    @property
    def waiting_blocks(self) -> int:
        """Hit blocks that will be read here and wait for a DE buffer or for slots."""
        return sum(
            len(s.opened.hit_keys)
            for s in self._sources.values()
            if s.opened is not None and s.path is ReadPath.PE and not s.acquired and not s.revoked
        )

    def on_offer(self, message: Offer) -> None:
        source = self._source(message.request_id, message.attempt)
        source.offer = message
        self._start(source)

    def _source(self, request_id: str, attempt: int) -> _Source:
        """The state of this attempt: its first message may come from the engine or from the decode side."""
        return self._sources.setdefault((request_id, attempt), _Source(request_id, attempt))

    def _start(self, source: _Source) -> None:
        if source.opened is None or source.offer is None or source.revoked:
            return
        if source.path is ReadPath.DE:
            source.hit_blocks = source.offer.hit_blocks
            self._ready(source, source.offer.queued_s, source.offer.read_s, source.offer.read_bytes)
        elif not source.opened.hit_keys:
            self._ready(source, 0.0, 0.0, 0)
        else:
            self._waiting.append(source)
            self.lease_waiting()

    def lease_waiting(self) -> None:
        """Start the reads whose slots are free now, in order. Call after slots became free."""
        while self._waiting:
            source = self._waiting[0]
            if not source.revoked and not self._acquire(source):
                return
            self._waiting.popleft()

    def _acquire(self, source: _Source) -> bool:
        opened, started = source.opened, self._context.now_s
        assert opened is not None
        most = self._context.pool.num_usable
        if len(opened.hit_keys) > most:  # lost slots do not come back, and a shorter hit is right, too
            self._reads.count_no_room(len(opened.hit_keys) - most)
            hit, being_written = opened.hit_keys[:most], opened.being_written[:most]
            source.opened = opened = replace(opened, hit_keys=hit, being_written=being_written)
        if not opened.hit_keys:
            self._ready(source, started - source.opened_s, 0.0, 0)
            return True

        def done(blocks: list[ResidentBlock], read_bytes: int) -> None:
            source.blocks, source.hit_blocks = blocks, verified_prefix(blocks)
            if source.revoked:
                self._finish_if_left_alone(source)
            else:
                self._ready(source, started - source.opened_s, self._context.now_s - started, read_bytes)

        # marked before the call: with every block resident, ``done`` runs inside it
        source.acquired = True
        request, urgent = (source.request_id, source.attempt), opened.urgent_at_s
        if not self._reads.acquire(opened.hit_keys, opened.being_written, *request, done, urgent):
            source.acquired = False
        return source.acquired

    def _ready(self, source: _Source, queued_s: float, read_s: float, read_bytes: int) -> None:
        assert source.opened is not None
        slots = [b.slot for b in source.blocks[: source.hit_blocks]]
        message = SourceReady(source.request_id, source.attempt, source.hit_blocks, slots, queued_s, read_s, read_bytes)
        self._context.send(source.opened.engine, message)

    # forward batches -------------------------------------------------------------------------------------------------

    def on_batch(self, message: Batch) -> None:
        named = [BatchItem(*fields) for fields in message.items]
        items = [(item, self._computing[message.engine, item.request_id]) for item in named]
        layout = self._context.layout
        chunks = [(s.path, s.hit_blocks * layout.block_tokens, i.start, i.stop) for i, s in items]
        batch = _Batch(message, items, {}, layers_left=layout.num_layers)
        parts: dict[tuple[str, int], list[tuple[CopyBatch, CopyBatch, CopyBatch]]] = {}
        for (item, source), plan in zip(items, plan_rows(chunks), strict=True):
            source.batches += 1
            assert source.opened is not None
            peer = (source.opened.decode_node, source.opened.decode_cnic)
            moves = self._item_moves(source, item, plan)
            parts.setdefault(peer, []).append(moves)
            source.cnic_in_bytes += moves[0].total_bytes * layout.num_layers
            source.cnic_out_bytes += (moves[1].total_bytes + moves[2].total_bytes) * layout.num_layers
        for peer, several in parts.items():
            batch.moves[peer] = _Moves(*(join([p[which] for p in several]) for which in range(3)))
        self._batches[(message.engine, message.batch)] = batch
        self._rings[message.engine].waiting.extend((batch, layer) for layer in range(layout.num_layers))
        self._advance(message.engine)

    def _item_moves(self, source: _Source, item: BatchItem, plan: ChunkPlan) -> tuple[CopyBatch, CopyBatch, CopyBatch]:
        """Descriptors (staged in, staged out, hit out) of one item at layer 0; region offsets from the region's start."""
        assert source.offer is not None
        layout = self._context.layout
        remote = np.asarray(source.offer.slots, np.int64)  # offsets in the peer's segment: DecodeSide offers those
        in_at, in_bytes = token_ranges(layout, remote, plan.local_tokens, item.start)
        out_at, out_bytes = token_ranges(layout, remote, item.start, item.stop)
        staged_in = CopyBatch(row_ranges(layout, 0, plan.first_row, in_bytes), in_at, in_bytes)
        staged_out = CopyBatch(row_ranges(layout, 0, plan.new_row, out_bytes), out_at, out_bytes)
        hit_out = CopyBatch(*(np.empty(0, np.int64) for _ in range(3)))
        if source.path is ReadPath.PE and source.hit_blocks and not source.pushed:
            source.pushed = True
            slots = [b.slot for b in source.blocks[: source.hit_blocks]]
            hit_tokens = source.hit_blocks * layout.block_tokens
            here, nbytes = token_ranges(layout, self._context.slot_offsets(slots), 0, hit_tokens)
            there, _ = token_ranges(layout, remote, 0, hit_tokens)
            hit_out = CopyBatch(here, there, nbytes)
        return staged_in, staged_out, hit_out

    def _advance(self, engine: int) -> None:
        """Give regions to the layers that come next and fetch their cached rows."""
        ring = self._rings[engine]

        def arrived(layer: _Arrival) -> Callable[[], None]:
            def tell() -> None:
                layer.here = True
                while ring.arriving and ring.arriving[0].here:
                    self._context.send(engine, ring.arriving.popleft().message)

            return tell

        while (taken := ring.take()) is not None:
            batch, layer, index = taken
            number = batch.message.batch
            self._regions[(engine, number, layer)] = index
            offset = ring.offset(index)
            arrival = _Arrival(LayerIn(number, layer, offset, self._context.now_s))
            ring.arriving.append(arrival)
            fetches = [
                (peer, moves.at_layer(moves.staged_in, layer * self._context.layout.layer_block_bytes, offset))
                for peer, moves in batch.moves.items()
                if len(moves.staged_in.nbytes)
            ]
            self._move_all(engine, batch, fetches, Direction.IN, layer, arrived(arrival))

    def _move_all(
        self,
        engine: int,
        batch: _Batch,
        moves: list[tuple[tuple[str, int], CopyBatch]],
        direction: Direction,
        layer: int,
        done: Callable[[], None],
    ) -> None:
        """Run several transfers; ``done`` after the last, at once when there is none."""
        left, context, started_s = len(moves), self._context, self._context.now_s

        def one_done() -> None:
            nonlocal left
            left -= 1
            if not left:
                nbytes = sum(copy.total_bytes for _, copy in moves)
                requests = [item.request_id for item, _ in batch.items]
                name, cnic = ("kv_out" if write else "kv_in"), context.cnics[engine]
                context.span(name, started_s, requests, cnic, direction, layer=layer, nbytes=nbytes)
                done()

        write = direction is Direction.OUT
        for (peer, peer_cnic), copy in moves:
            context.transfer(peer, peer_cnic, engine, write, copy, one_done, batch.urgent_at_s)
        if not moves:
            done()

    def on_layer_out(self, message: LayerOut) -> None:
        """The engine has put this layer's new KV into its region: everything of the layer goes to the DE buffer."""
        key = (message.engine, message.batch)
        batch, ring = self._batches[key], self._rings[message.engine]
        index = self._regions.pop((*key, message.layer))
        region = ring.offset(index)
        layer_offset = message.layer * self._context.layout.layer_block_bytes
        pushes = [
            (
                peer,
                join(
                    [
                        moves.at_layer(moves.hit_out, layer_offset, None),
                        moves.at_layer(moves.staged_out, layer_offset, region),
                    ]
                ),
            )
            for peer, moves in batch.moves.items()
        ]

        def through() -> None:
            ring.free(index)
            batch.layers_left -= 1
            self._finish_if_over(key, batch)
            self._advance(message.engine)

        self._move_all(message.engine, batch, pushes, Direction.OUT, message.layer, through)

    def on_batch_done(self, message: BatchDone) -> None:
        key = (message.engine, message.batch)
        batch = self._batches[key]
        batch.done = message
        self._finish_if_over(key, batch)

    def _finish_if_over(self, key: tuple[int, int], batch: _Batch) -> None:
        if batch.layers_left or batch.done is None:
            return
        del self._batches[key]
        for item, source in batch.items:
            source.batches -= 1
            if item.last and not source.revoked:
                assert source.opened is not None
                done = PromptDone(
                    item.request_id,
                    source.attempt,
                    source.hit_blocks,
                    batch.done.first.get(item.request_id, []),
                    {
                        **batch.done.facts.get(item.request_id, {}),
                        "cnic_in_bytes": source.cnic_in_bytes,
                        "cnic_out_bytes": source.cnic_out_bytes,
                    },
                )
                self._context.send(source.opened.decode_node, done)
                self._forget(source)
            else:
                self._finish_if_left_alone(source)

    # a request ends --------------------------------------------------------------------------------------------------

    def _forget(self, source: _Source) -> None:
        del self._sources[source.request_id, source.attempt]
        assert source.opened is not None
        computed_by = (source.opened.engine, source.request_id)
        if self._computing.get(computed_by) is source:
            del self._computing[computed_by]
        self._reads.release(source.blocks)
        self.lease_waiting()

    def on_revoke(self, node: str, message: Revoke) -> None:
        """The decode side gives up: stop, and answer when nothing writes to its slots any more."""
        source = self._source(message.request_id, message.attempt)
        source.revoked, source.revoked_by = True, node
        if source.opened is not None:  # else the engine's OpenSource is still to come: it gets its answer then
            self._context.send(source.opened.engine, SourceGone(message.request_id, message.attempt))

    def on_settled(self, message: Settled) -> None:
        """Our PromptDone had ended the request before the Revoke came."""
        self._sources.pop((message.request_id, message.attempt), None)

    def on_close(self, message: CloseSource) -> None:
        source = self._sources.get((message.request_id, message.attempt))
        if source is not None:
            source.closed = True
            self._finish_if_left_alone(source)

    def _finish_if_left_alone(self, source: _Source) -> None:
        reading = source.acquired and not source.blocks
        if not (source.revoked and source.closed) or source.batches or reading:
            return
        self._context.send(source.revoked_by, Revoked(source.request_id, source.attempt))
        self._forget(source)


def region_layout(layout: KvLayout, staging_bytes: int, num_engines: int, depth: int) -> int:
    """Bytes of one region when the staging zone serves ``num_engines`` engines with ``depth`` layers in flight each."""
    return staging_bytes // (num_engines * depth) // layout.bytes_per_token_layer * layout.bytes_per_token_layer
