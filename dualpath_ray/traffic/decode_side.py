"""The decode half of both read paths: the DE buffer that receives a prompt's KV, and the way from there to HBM and storage."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dualpath_ray.base.errors import StorageError
from dualpath_ray.base.types import ReadPath
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.hit_reads import HitReads, ResidentBlock, verified_prefix
from dualpath_ray.traffic.messages import (
    CloseSink,
    Offer,
    OpenSink,
    PersistReady,
    PersistSlot,
    PersistWant,
    PromptComplete,
    PromptDone,
    Registered,
    Revoke,
    Revoked,
    Settled,
    SinkClosed,
    SinkLoaded,
)
from dualpath_ray.traffic.write_back import NewBlock, WriteBack


@dataclass(slots=True)
class _Sink:
    """One request at this decode node: its DE buffer slots, the shared hit blocks first, then its own."""

    opened: OpenSink
    opened_s: float
    shared: list[ResidentBlock] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    read: tuple[float, float, int] = (0.0, 0.0, 0)  # seconds waiting for slots, seconds reading, bytes
    leased: bool = False
    offered: bool = False
    complete: bool = False
    closing: bool = False

    @property
    def slots(self) -> list[int]:
        return [b.slot for b in self.shared] + self.own


class DecodeSide:
    """All requests that this node decodes."""

    def __init__(self, context: NodeContext, reads: HitReads, write_back: WriteBack) -> None:
        self._context, self._reads, self._write_back = context, reads, write_back
        self._sinks: dict[tuple[str, int], _Sink] = {}  # by request and attempt
        self._waiting: deque[tuple[str, int]] = deque()  # for DE slots, in order
        write_back.on_free = self.lease_waiting

    @property
    def num_requests(self) -> int:
        """Requests whose prompt is not loaded yet."""
        return len(self._sinks)

    def on_open(self, message: OpenSink) -> None:
        key = (message.request_id, message.attempt)
        self._sinks[key] = _Sink(message, self._context.now_s)
        self._waiting.append(key)
        self.lease_waiting()

    @property
    def waiting_blocks(self) -> tuple[int, int]:
        """(hit blocks to be read here, buffer blocks) of the requests that wait for slots."""
        waiting = [s.opened for s in self._sinks.values() if not s.leased]
        reads = sum(len(o.hit_keys) for o in waiting if o.read_path == ReadPath.DE)
        return reads, sum(self._context.layout.num_blocks(o.prompt_tokens) for o in waiting)

    def _sink(self, request_id: str, attempt: int) -> _Sink | None:
        return self._sinks.get((request_id, attempt))

    def lease_waiting(self) -> None:
        """Start the requests whose slots are free now, in order. Call after slots became free."""
        while self._waiting:
            sink = self._sinks.get(self._waiting[0])
            if sink is not None and not self._lease(sink):
                return
            self._waiting.popleft()

    def _lease(self, sink: _Sink) -> bool:
        opened, pool = sink.opened, self._context.pool
        num_blocks = self._context.layout.num_blocks(opened.prompt_tokens)
        reads_here = opened.read_path == ReadPath.DE
        keys = opened.hit_keys if reads_here else []
        if pool.num_lost and num_blocks > pool.num_usable:
            self._context.fail(
                StorageError(
                    f"{self._context.node} needs {num_blocks} slots of its buffer for one request, but of {pool.num_slots} "
                    f"it has lost {pool.num_lost} to reads that did not end; see to its way to the store, then start again"
                )
            )
        if self._reads.missing(keys) + num_blocks - len(keys) > pool.num_free:
            return False
        own = pool.lease(num_blocks - len(keys), opened.request_id, opened.attempt)
        assert own is not None
        sink.own, sink.leased = own, True
        started = self._context.now_s
        if not keys:
            self._offer(sink, 0 if reads_here else -1)
            return True

        def read(blocks: list[ResidentBlock], read_bytes: int) -> None:
            good = verified_prefix(blocks)
            sink.shared = blocks[:good]
            sink.read = (started - sink.opened_s, self._context.now_s - started, sink.read[2] + read_bytes)
            self._reads.release(blocks[good:])
            if sink.closing:
                self._drop(sink)
                return
            # What failed is computed again, into slots of the request's own.
            instead = pool.lease(len(blocks) - good, opened.request_id, opened.attempt)
            if instead is None:
                self._begin_again(sink, good)
            else:
                sink.own = instead + sink.own
                self._offer(sink, good)

        request, urgent = (opened.request_id, opened.attempt), opened.urgent_at_s
        taken = self._reads.acquire(keys, opened.being_written, *request, read, urgent)
        assert taken
        return True

    def _begin_again(self, sink: _Sink, hit_blocks: int) -> None:
        """Give everything back and wait for slots, first of all, with the hit as short as it turned out to be.

        The slots of blocks that failed may be with others yet, or lost: who kept its own meanwhile would make others wait
        who do the same.
        """
        opened = sink.opened
        self._reads.release(sink.shared)
        self._context.pool.release(sink.own)
        sink.shared, sink.own, sink.leased = [], [], False
        hit, being_written = opened.hit_keys[:hit_blocks], opened.being_written[:hit_blocks]
        sink.opened = replace(opened, hit_keys=hit, being_written=being_written)
        self._waiting.appendleft((opened.request_id, opened.attempt))
        self.slots_freed()

    def _offer(self, sink: _Sink, hit_blocks: int) -> None:
        sink.offered = True
        opened = sink.opened
        places = self._context.slot_offsets(sink.slots).tolist()
        offer = Offer(opened.request_id, opened.attempt, places, hit_blocks, *sink.read)
        self._context.send(opened.prefill_node, offer)

    def on_prompt_done(self, message: PromptDone) -> None:
        sink = self._sink(message.request_id, message.attempt)
        if sink is None:
            return
        sink.complete = True
        if sink.closing:
            self._context.send(sink.opened.prefill_node, Settled(message.request_id, message.attempt))
            self._drop(sink)
            return
        complete = PromptComplete(
            message.request_id, message.attempt, sink.slots, message.hit_blocks, message.first, message.stages
        )
        self._context.send(sink.opened.engine, complete)

    def on_loaded(self, message: SinkLoaded) -> None:
        """The KV is in HBM: new full blocks go to write-back with their slots, all other slots become free."""
        sink = self._sink(message.request_id, message.attempt)
        if sink is None:
            return
        del self._sinks[message.request_id, message.attempt]
        slots = sink.slots
        blocks = [
            NewBlock(key, parent, message.weights_version, slots[block]) for block, key, parent in message.persist
        ]
        kept = {b.slot for b in blocks}
        self._reads.release(sink.shared)
        self._context.pool.release([s for s in sink.own if s not in kept])
        if blocks:
            self._persist(sink.opened.engine, message.request_id, message.attempt, message.trajectory_id, blocks)
        self.slots_freed()

    def _persist(
        self,
        engine: int,
        request_id: str,
        attempt: int,
        trajectory_id: str,
        blocks: Sequence[NewBlock],
        counted: bool = False,
    ) -> None:
        def registered(num_writes: int) -> None:
            self._context.send(engine, Registered(request_id, attempt, len(blocks), num_writes))

        self._write_back.write(blocks, trajectory_id, registered, counted)

    def on_persist_want(self, message: PersistWant) -> None:
        def granted(slot: int) -> None:
            answer = PersistSlot(message.request_id, message.attempt, message.block, slot)
            self._context.send(message.engine, answer)

        self._write_back.want_slot(message.request_id, message.attempt, granted)

    def on_persist_ready(self, message: PersistReady) -> None:
        block = NewBlock(message.key, message.parent, message.weights_version, message.slot)
        self._persist(message.engine, message.request_id, message.attempt, message.trajectory_id, [block], counted=True)

    def on_close(self, message: CloseSink) -> None:
        """Cancelled: slots are released once nothing writes to them: the reads here, the peer's transfers."""
        sink = self._sink(message.request_id, message.attempt)
        if sink is None or sink.closing or sink.complete:  # complete: the engine reads the slots, then says SinkLoaded
            return
        sink.closing = True
        if not sink.leased:
            self._drop(sink)
        elif sink.offered:
            self._context.send(sink.opened.prefill_node, Revoke(message.request_id, message.attempt))

    def on_revoked(self, message: Revoked) -> None:
        sink = self._sink(message.request_id, message.attempt)
        if sink is not None:
            self._drop(sink)

    def _drop(self, sink: _Sink) -> None:
        opened = sink.opened
        if not sink.offered:  # the prefill side may have opened its half already: it must hear of the end too
            self._context.send(opened.prefill_node, Revoke(opened.request_id, opened.attempt))
        del self._sinks[opened.request_id, opened.attempt]
        self._reads.release(sink.shared)
        self._context.pool.release(sink.own)
        self._context.send(opened.engine, SinkClosed(opened.request_id, opened.attempt))
        self.slots_freed()

    def slots_freed(self) -> None:
        self._write_back.grant_slots()
        self.lease_waiting()
