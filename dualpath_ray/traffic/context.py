"""What the parts of a traffic manager share: pool, NICs, and how they ask for effects. Pure: time is passed in."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dualpath_ray.base.errors import DualPathError, TransportError
from dualpath_ray.base.span_log import Span, SpanLog
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool
from dualpath_ray.traffic.copies import cut
from dualpath_ray.traffic.effects import CopyPool, Effect, Fail, IndexCall, OpDone, ReadBlock, Send, WriteBlock
from dualpath_ray.traffic.messages import Collective, CollectiveDone, Grant, Granted
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.traffic.nic_queue import LEAST_CHUNK_BYTES, Transfer
from dualpath_ray.transport.port import CopyBatch

Callback = Callable[[OpDone], None]
READ_AGAIN_S = 10.0  # after a node's way to the store failed


def nothing() -> None:
    """A callback for events that nobody waits for."""


class NodeContext:
    """State of one node, and the outbox of effects that its parts fill while an event is handled."""

    def __init__(
        self,
        node: str,
        layout: KvLayout,
        pool: BufferPool,
        slots_offset: int,
        snic: Nic,
        cnics: Sequence[Nic],
        can_read: bool = True,
        least_chunk_bytes: int = LEAST_CHUNK_BYTES,
    ) -> None:
        self.node, self.layout, self.pool = node, layout, pool
        self.slots_offset = slots_offset
        self.snic, self.cnics = snic, list(cnics)
        self.on_host: frozenset[str] = frozenset()  # peers whose copies are on no real device
        self._least_chunk_bytes = least_chunk_bytes
        self._has_store = can_read
        self._read_again_s = float("-inf")
        self.spans = SpanLog()
        self.now_s = self.event_s = 0.0  # the latter: of what a NIC tells of, by its schedule
        self.outbox: list[Effect] = []
        self._callbacks: dict[int, Callback] = {}
        self._grants: dict[int, Callable[[], None]] = {}
        self._next_op = 0

    @property
    def can_read(self) -> bool:
        """Whether this node's way to the store works, as far as is known."""
        return self._has_store and self.now_s >= self._read_again_s

    def reading_failed(self) -> None:
        """A block that is whole in the store could not be read here: let others read for a while, then try again."""
        self._read_again_s = self.now_s + READ_AGAIN_S

    # effects ---------------------------------------------------------------------------------------------------------

    def _op(self, done: Callback) -> int:
        self._next_op += 1
        self._callbacks[self._next_op] = done
        return self._next_op

    def send(self, to: str | int, message: Any) -> None:
        self.outbox.append(Send(to, message))

    def fail(self, error: DualPathError) -> None:
        self.outbox.append(Fail(error))

    def read_block(self, key: bytes, slot: int, done: Callback) -> None:
        self.outbox.append(ReadBlock(self._op(done), key, slot))

    def write_block(self, key: bytes, parent: bytes, weights_version: int, slot: int, done: Callback) -> None:
        self.outbox.append(WriteBlock(self._op(done), key, parent, weights_version, slot))

    def index(self, method: str, *args: Any, done: Callback) -> None:
        self.outbox.append(IndexCall(self._op(done), method, args))

    def op_done(self, event: OpDone) -> None:
        self._callbacks.pop(event.op)(event)

    # wires -----------------------------------------------------------------------------------------------------------

    def wire(
        self,
        nic: Nic,
        direction: Direction,
        nbytes: int,
        on_start: Callable[[], None] = nothing,
        on_finish: Callable[[], None] = nothing,
        on_device: bool = True,
        traffic_class: TrafficClass = TrafficClass.KV_CACHE,
        urgent_at_s: float | None = None,
    ) -> Transfer:
        """Put bytes on one direction of a NIC; the callbacks run when they start and when they are through.

        Args: urgent_at_s: from when on what is left of them goes in the lane of urgent KV.
        """
        mark = (on_start, on_finish)
        return nic[direction].submit(mark, nbytes, traffic_class, self.now_s, on_device, urgent_at_s)

    def transfer(
        self,
        peer: str,
        peer_cnic: int,
        cnic: int,
        write: bool,
        batch: CopyBatch,
        done: Callable[[], None],
        urgent_at_s: float | None = None,
    ) -> None:
        """Copy between this pool and a peer's; over when the bytes are there and both CNICs have carried them.

        On an emulated CNIC it is a row of chunks, each copied when the schedule comes to it; the peer's carries the whole.
        """
        here = Direction.OUT if write else Direction.IN
        chunk_bytes = self.cnics[cnic][here].chunk_bytes(self._least_chunk_bytes)
        chunks = cut(batch, chunk_bytes) if chunk_bytes else [batch]
        waiting = 2 * len(chunks) + 1

        def part_done() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done()

        def copied(event: OpDone) -> None:
            if event.error:
                self.fail(TransportError(str(event.error)))
            else:
                part_done()

        def start(chunk: CopyBatch) -> None:
            urgent = urgent_at_s is not None and urgent_at_s <= self.now_s
            traffic_class = TrafficClass.KV_URGENT if urgent else TrafficClass.KV_CACHE
            self.outbox.append(CopyPool(self._op(copied), peer, write, chunk, traffic_class))

        self._next_op += 1
        self._grants[self._next_op] = part_done
        there = Direction.IN if write else Direction.OUT
        urgent_in_s = None if urgent_at_s is None else max(0.0, urgent_at_s - self.now_s)
        self.send(peer, Grant(self._next_op, peer_cnic, there, batch.total_bytes, urgent_in_s))
        on_device = peer not in self.on_host
        for chunk in chunks:
            begin = partial(start, chunk)
            self.wire(self.cnics[cnic], here, chunk.total_bytes, begin, part_done, on_device, urgent_at_s=urgent_at_s)

    def on_grant(self, peer: str, message: Grant) -> None:
        """A peer drives a transfer that uses one of our CNICs too."""
        answer = Granted(message.op)
        self.wire(
            self.cnics[message.cnic],
            Direction(message.direction),
            message.nbytes,
            on_finish=lambda: self.send(peer, answer),
            on_device=peer not in self.on_host,
            urgent_at_s=None if message.urgent_in_s is None else self.now_s + message.urgent_in_s,
        )

    def on_granted(self, message: Granted) -> None:
        self._grants.pop(message.op)()

    def on_collective(self, message: Collective) -> None:
        """Model execution: both directions of the engine's CNIC carry it.


        A real NIC hears of it by a doorbell, and its end is seen at once. So the schedule takes it from when it was posted,
        as far as it is not decided, and the engine is told of its end ahead.
        """
        nic, waiting, end_s = self.cnics[message.engine], len(Direction), float("-inf")

        def through() -> None:
            nonlocal waiting, end_s
            waiting, end_s = waiting - 1, max(end_s, self.event_s)
            if not waiting:
                self.send(message.engine, CollectiveDone(message.op, end_s - message.posted_s, end_s))

        for direction in Direction:
            nic[direction].submit_ahead(
                (nothing, through),
                message.nbytes,
                TrafficClass.MODEL_EXECUTION,
                message.posted_s,
                self.now_s,
                message.on_device,
            )

    def span(
        self, name: str, start_s: float, requests: Sequence[str], nic: Nic, direction: Direction, **more: Any
    ) -> None:
        """Something for these requests is over now. Args: more: fields of ``Span``."""
        self.spans.add(Span(name, start_s, self.now_s, tuple(requests), nic[direction].name, **more))

    def poll_nics(self) -> bool:
        """Run the callbacks that are due; True when there were any."""
        due = False
        for nic in (self.snic, *self.cnics):
            for queue in nic.queues.values():
                for event in queue.poll(self.now_s):
                    due, self.event_s = True, event.at_s
                    start, finish = event.transfer  # the mark that wire() passed
                    (finish if event.finished else start)()
        return due

    def next_deadline_s(self) -> float | None:
        times = [queue.next_event_s() for nic in (self.snic, *self.cnics) for queue in nic.queues.values()]
        if self.now_s < self._read_again_s:
            times.append(self._read_again_s)
        return min((t for t in times if t is not None), default=None)

    # places ----------------------------------------------------------------------------------------------------------

    def slot_offsets(self, slots: Sequence[int]) -> np.ndarray:
        """Offset of each slot in this node's segment, int64 [num_slots]."""
        return self.slots_offset + np.asarray(slots, np.int64) * self.layout.slot_bytes
