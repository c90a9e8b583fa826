"""One node's traffic manager without its actor: its core, its pool, and a loop that sleeps to the NICs' schedule.

The peer's pool is at hand and grants everything at once, so that what is measured is this node's compute NIC alone.
"""

import os
import queue
import secrets
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.core_runner import next_event
from dualpath_ray.traffic.effects import CopyPool, Effect, Event, Fail, FromPeer, OpDone, Send
from dualpath_ray.traffic.messages import Grant, Granted
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.transport.port import CopyBatch
from dualpath_ray.transport.shared_memory import SharedMemoryTransport

NODE, PEER = "d0", "p0"
LAYOUT = KvLayout(num_layers=8, block_tokens=64, bytes_per_token_layer=2048)  # a block is 1 MiB
_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that are there, the time until the last one was, and CPU seconds: of the loop, and with those who copy."""

    nbytes: int
    seconds: float
    loop_cpu_s: float
    cpu_s: float


class NicDriver:
    """A node whose compute NIC has a rate in each direction."""

    def __init__(self, bytes_per_s: float, lanes: Lanes) -> None:
        """Raises: ConfigError when /dev/shm is full."""
        system = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
        self._segments = [Segment.create(segment_path(system, node), LAYOUT, _SLOTS, 0, node) for node in (NODE, PEER)]
        here, there = self._segments
        self._transport = SharedMemoryTransport(NODE, here)
        self._transport.connect(PEER, SharedMemoryTransport(PEER, there).describe())
        self.nic = Nic(f"{NODE}/cnic0", bytes_per_s, bytes_per_s, lanes=lanes)
        snic = Nic(f"{NODE}/snic", None, None)
        self._context = NodeContext(NODE, LAYOUT, BufferPool(here), here.slots_offset, snic, [self.nic])
        self._core = TrafficCore(self._context, [], 1, 1.0)
        self._slots = self._context.slot_offsets(range(_SLOTS))
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._at_once: deque[Event] = deque()
        self._copy = ThreadPoolExecutor(2, "pool-copy")

    @property
    def pools(self) -> tuple[np.ndarray, np.ndarray]:
        """The slots of this node and of its peer, uint8 [bytes]."""
        here, there = (segment.bytes[self._slots[0] :] for segment in self._segments)
        return here, there

    def move(self, direction: Direction, parts: Sequence[tuple[TrafficClass, int]]) -> Moved:
        """Put all parts on the NIC at once; returns when all their bytes are there.

        Args: parts: (kv_cache or kv_urgent, bytes).
        """
        context, left = self._context, 0

        def done() -> None:
            nonlocal left
            left -= 1

        cpu_s, loop_cpu_s, began = time.process_time(), time.thread_time(), time.monotonic()
        context.now_s, context.outbox = began, []
        for traffic_class, nbytes in parts:
            urgent_at_s = began if traffic_class is TrafficClass.KV_URGENT else None
            for batch in self._batches(nbytes):
                left += 1
                context.transfer(PEER, 0, 0, direction is Direction.OUT, batch, done, urgent_at_s)
        self._execute(context.outbox)
        while left:
            self._execute(self._core.handle(self._next_event(), time.monotonic()))
        return Moved(
            sum(nbytes for _, nbytes in parts),
            time.monotonic() - began,
            time.thread_time() - loop_cpu_s,
            time.process_time() - cpu_s,
        )

    def _batches(self, nbytes: int) -> list[CopyBatch]:
        """Copies of all slots, over and over, the last one of what is left."""
        sizes = np.full(-(-nbytes // LAYOUT.full_block_bytes), LAYOUT.full_block_bytes)
        sizes[-1] = nbytes - (len(sizes) - 1) * LAYOUT.full_block_bytes
        found = []
        for first in range(0, len(sizes), _SLOTS):
            some = sizes[first : first + _SLOTS]
            offsets = self._slots[: len(some)]
            found.append(CopyBatch(offsets, offsets, some))
        return found

    def _next_event(self) -> Event:
        if self._at_once:
            return self._at_once.popleft()
        event = next_event(self._events, self._core.next_deadline_s())
        assert event is not None, "nobody ends this loop but its own count"
        return event

    def _execute(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Grant):
                self._at_once.append(FromPeer(PEER, Granted(effect.message.op)))
            elif isinstance(effect, CopyPool):
                move = self._transport.write if effect.write else self._transport.read
                if effect.batch.total_bytes <= self._transport.inline_bytes:
                    move(PEER, effect.batch)
                    self._at_once.append(OpDone(effect.op))
                else:
                    copy = self._copy.submit(move, PEER, effect.batch)
                    copy.add_done_callback(partial(self._copied, effect.op))
            elif isinstance(effect, Fail):
                raise effect.error

    def _copied(self, op: int, copy: "Future[None]") -> None:
        error = copy.exception()
        self._events.put(OpDone(op, None, error if isinstance(error, Exception) else None))

    def close(self) -> None:
        """Leave nothing in /dev/shm."""
        self._copy.shutdown()
        self._transport.close()
        for segment in self._segments:
            segment.unlink()
            os.close(segment.fd)
