"""An emulated NIC: full duplex, each direction a queue over a rate limit, with exact byte counters. Pure.

A direction serves its queue in order on an absolute schedule: a transfer starts when it has arrived and the one before
it is through, and ends ``nbytes / rate`` later. Arrivals are stamped, so a late caller shifts when it *learns* of an end,
never the schedule: the long-run rate is exact and there is no burst. A direction without a rate serves at once: a real
device takes the time that it takes. Its link's rate, where known, tells how busy it was, and slows nothing down.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dualpath_ray.base.types import TrafficClass

CHUNK_S = 0.01  # of an emulated rate: real bytes run ahead of their schedule by no more than this (appendix A.1)
LEAST_CHUNK_BYTES = 256 * 1024  # smaller copies would cost more in calls than in bytes


class Direction(StrEnum):
    """Seen from the node: IN is a storage read or a receive, OUT a storage write or a send."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class NicEvent:
    """A transfer started or ended on the wire."""

    transfer: Any  # the caller's own mark
    finished: bool
    at_s: float


@dataclass(slots=True)
class _Transfer:
    mark: object
    nbytes: int
    start_s: float
    finish_s: float
    on_device: bool
    started: bool = False


@dataclass(slots=True)
class NicCounters:
    """What a direction has done so far; display and reports read it."""

    done_bytes: int = 0
    busy_s: float = 0.0
    transfers: int = 0
    bytes_by_class: dict[str, int] = field(default_factory=dict)


class NicQueue:
    """One direction of a NIC. Times are seconds of any one clock, passed in and never decreasing."""

    def __init__(self, name: str, rate_bytes_per_s: float | None, charged: bool = True) -> None:
        self.name = name
        self.rate_bytes_per_s = rate_bytes_per_s if charged else None
        self.charged = charged
        self.link_bytes_per_s: float | None = None  # of a real device
        self.counters = NicCounters()
        self._queue: deque[_Transfer] = deque()
        self._free_at_s = float("-inf")
        self.queued_bytes = 0
        self.scheduled_s = 0.0  # busy time of all that was ever given a place, what is still ahead included

    @property
    def reported_bytes_per_s(self) -> float | None:
        """The rate that utilisation is a share of: the emulated one, else the link's. None: neither is known."""
        return self.rate_bytes_per_s or (self.link_bytes_per_s if self.charged else None)

    def chunk_bytes(self, least_bytes: int = LEAST_CHUNK_BYTES) -> int | None:
        """A copy is cut into parts of this size, so that its bytes flow while the schedule says that they do, and not all
        at its start. None without an emulated rate: a real device paces itself, and a copy stays whole."""
        return max(least_bytes, int(self.rate_bytes_per_s * CHUNK_S)) if self.rate_bytes_per_s else None

    def reserve(self, nbytes: int, traffic_class: TrafficClass, now_s: float) -> tuple[float, float]:
        """The place on the schedule of a transfer that arrives now: (start, end) in seconds.

        All that is known of a transfer is known here: whoever needs no word of it, as the simulator, need not ``submit``.
        """
        start, rate = self._free_at_s, self.rate_bytes_per_s
        if start < now_s:
            start = now_s
        took = nbytes / rate if rate else 0.0
        self._free_at_s = end = start + took
        self.scheduled_s += took  # as ``count`` does it, which is not called: the simulator is here most of its time
        if self.charged:
            by_class = self.counters.bytes_by_class
            by_class[traffic_class] = by_class.get(traffic_class, 0) + nbytes
        return start, end

    def count(self, nbytes: int, took_s: float, traffic_class: TrafficClass) -> None:
        """Count bytes that somebody else's schedule let through."""
        self.scheduled_s += took_s
        if self.charged:
            by_class = self.counters.bytes_by_class
            by_class[traffic_class] = by_class.get(traffic_class, 0) + nbytes

    def scheduled_busy_s(self, now_s: float) -> float:
        """Busy seconds up to now: what is still ahead stands on the schedule without a gap."""
        return self.scheduled_s - max(0.0, self._free_at_s - now_s)

    def submit(
        self, mark: object, nbytes: int, traffic_class: TrafficClass, now_s: float, on_device: bool = True
    ) -> None:
        """Queue a transfer; ``poll`` tells of its start and its end.

        Args: on_device: whether a real device carries it, whose link it then keeps busy.
        """
        start, finish = self.reserve(nbytes, traffic_class, now_s)
        self._queue.append(_Transfer(mark, nbytes, start, finish, on_device))
        self.queued_bytes += nbytes

    def poll(self, now_s: float) -> list[NicEvent]:
        """Starts and ends up to now, in order."""
        events: list[NicEvent] = []
        while self._queue:
            head = self._queue[0]
            if not head.started and head.start_s <= now_s:
                head.started = True
                events.append(NicEvent(head.mark, False, head.start_s))
            if head.finish_s > now_s or not head.started:
                break
            self._queue.popleft()
            self.queued_bytes -= head.nbytes
            if self.charged:
                self.counters.done_bytes += head.nbytes
                self.counters.transfers += 1
                self.counters.busy_s += self._took_s(head)
            events.append(NicEvent(head.mark, True, head.finish_s))
        return events

    def _took_s(self, transfer: _Transfer) -> float:
        if self.rate_bytes_per_s or not self.link_bytes_per_s:
            return transfer.finish_s - transfer.start_s
        return transfer.nbytes / self.link_bytes_per_s if transfer.on_device else 0.0

    def next_event_s(self) -> float | None:
        """When ``poll`` has something to say next; None when idle."""
        if not self._queue:
            return None
        head = self._queue[0]
        return head.finish_s if head.started else head.start_s

    def busy_until(self, now_s: float) -> tuple[float, float]:
        """(busy seconds, bytes) up to now, the transfer on the wire counted in part."""
        busy, done = self.counters.busy_s, float(self.counters.done_bytes)
        if self._queue and self._queue[0].started and self.rate_bytes_per_s:
            part = min(now_s, self._queue[0].finish_s) - self._queue[0].start_s
            busy, done = busy + part, done + part * self.rate_bytes_per_s
        return busy, done


class Nic:
    """A full-duplex NIC with a name such as ``p0/snic`` or ``d0/cnic0``."""

    def __init__(
        self, name: str, in_bytes_per_s: float | None, out_bytes_per_s: float | None, charged: bool = True
    ) -> None:
        self.name = name
        self.device: str | None = None  # whose link the bytes go over, where that is known
        self.queues = {
            Direction.IN: NicQueue(f"{name}/in", in_bytes_per_s, charged),
            Direction.OUT: NicQueue(f"{name}/out", out_bytes_per_s, charged),
        }

    def __getitem__(self, direction: Direction) -> NicQueue:
        return self.queues[direction]

    def carried_by(self, device: str | None, link_bytes_per_s: float | None) -> None:
        """Say which real device carries this NIC's bytes, and the rate of its link in each direction."""
        self.device = device
        for queue in self.queues.values():
            queue.link_bytes_per_s = link_bytes_per_s
