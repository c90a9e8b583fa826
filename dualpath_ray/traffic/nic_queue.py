"""One direction of an emulated NIC: lanes over a rate limit, with exact byte counters. Pure.

A direction keeps an absolute schedule: while one lane has transfers, each starts when it has arrived and the one before it
is through, and ends ``nbytes / rate`` later. While several have, the arbiter lets their packets take turns (appendix A.1).
Arrivals are stamped, so a late caller shifts when it *learns* of an end, never the schedule: the long-run rate is exact and
there is no burst. A direction without a rate serves at once: a real device takes the time that it takes. Its link's rate,
where known, tells how busy it was, and slows nothing down.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.traffic.arbiter import Arbiter

CHUNK_S = 0.01  # of an emulated rate: real bytes run ahead of their schedule by no more than this (appendix A.1)
LEAST_CHUNK_BYTES = 256 * 1024  # smaller copies would cost more in calls than in bytes
_LOOK_S = 1e-3  # between two looks at whether a lane that must wait has got its turn


@dataclass(frozen=True, slots=True)
class NicEvent:
    """A transfer started or ended on the wire."""

    transfer: Any  # the caller's own mark
    finished: bool
    at_s: float


@dataclass(slots=True, eq=False)
class _Transfer:
    mark: object
    nbytes: int
    traffic_class: TrafficClass
    arrived_s: float
    on_device: bool
    left_bytes: int
    started: bool = False


@dataclass(slots=True)
class NicCounters:
    """What a direction has done so far; display and reports read it."""

    done_bytes: int = 0
    busy_s: float = 0.0
    transfers: int = 0
    promoted: int = 0  # transfers that went on in another class's lane
    bytes_by_class: dict[str, int] = field(default_factory=dict)


class NicQueue:
    """One direction of a NIC. Times are seconds of any one clock, passed in and never decreasing."""

    def __init__(
        self, name: str, rate_bytes_per_s: float | None, charged: bool = True, lanes: Lanes | None = None
    ) -> None:
        """Args: charged: False takes no time and counts nothing; lanes: None has one for all classes."""
        self.name = name
        self.rate_bytes_per_s = rate_bytes_per_s if charged else None
        self.charged = charged
        self.link_bytes_per_s: float | None = None  # of a real device
        self.counters = NicCounters()
        self._lanes = lanes if self.rate_bytes_per_s else None
        num_lanes = lanes.tables.max_vls if self._lanes and lanes else 1
        self._queues: list[deque[_Transfer]] = [deque() for _ in range(num_lanes)]
        self._arbiter = Arbiter(lanes.tables) if self._lanes and lanes else None
        self._events: deque[NicEvent] = deque()  # that ``poll`` has not told yet
        self._free_at_s = float("-inf")  # all that is decided is through by then
        self.queued_bytes = 0
        self.scheduled_s = 0.0  # busy time of all that ``reserve`` ever gave a place, what is still ahead included

    @property
    def reported_bytes_per_s(self) -> float | None:
        """The rate that utilisation is a share of: the emulated one, else the link's. None: neither is known."""
        return self.rate_bytes_per_s or (self.link_bytes_per_s if self.charged else None)

    def chunk_bytes(self, least_bytes: int = LEAST_CHUNK_BYTES) -> int | None:
        """A copy is cut into parts of this size, so that its bytes flow while the schedule says that they do, and not all
        at its start. None without an emulated rate: a real device paces itself, and a copy stays whole."""
        return max(least_bytes, int(self.rate_bytes_per_s * CHUNK_S)) if self.rate_bytes_per_s else None

    # a schedule that is known at once, of traffic of one class ---------------------------------------------------------

    def reserve(self, nbytes: int, traffic_class: TrafficClass, now_s: float) -> tuple[float, float]:
        """The place on the schedule of a transfer that arrives now: (start, end) in seconds.

        Instead of ``submit``, where all traffic is of one class, as the simulator's is: then nothing overtakes.
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
        self._count_class(nbytes, traffic_class)

    def scheduled_busy_s(self, now_s: float) -> float:
        """Busy seconds up to now: what is still ahead stands on the schedule without a gap."""
        return self.scheduled_s - max(0.0, self._free_at_s - now_s)

    # transfers that take turns -----------------------------------------------------------------------------------------

    def submit(
        self, mark: object, nbytes: int, traffic_class: TrafficClass, now_s: float, on_device: bool = True
    ) -> None:
        """Queue a transfer; ``poll`` tells of its start and its end.

        Args:   on_device: whether a real device carries it, whose link it then keeps busy.
        Raises: ConfigError for a class without a lane.
        """
        lane = self._lanes.lane(traffic_class) if self._lanes else 0
        self._put(lane, _Transfer(mark, nbytes, traffic_class, now_s, on_device, nbytes), now_s)
        self.queued_bytes += nbytes

    def promote(self, mark: object, traffic_class: TrafficClass, now_s: float) -> bool:
        """What is left of a transfer goes on in another class's lane. False: it is through, or there already.

        Raises: ConfigError for a class without a lane.
        """
        if not self._lanes:
            return False
        self._advance(now_s)
        to = self._lanes.lane(traffic_class)
        for lane, queue in enumerate(self._queues):
            found = next((transfer for transfer in queue if transfer.mark is mark), None)
            if found is not None and lane != to:
                if found is queue[0] and found.started:
                    self._settle(found, now_s)
                if not found.left_bytes:
                    return False
                queue.remove(found)
                found.traffic_class, found.arrived_s = traffic_class, now_s
                self._put(to, found, now_s)
                self.counters.promoted += 1
                return True
        return False

    def poll(self, now_s: float) -> list[NicEvent]:
        """Starts and ends up to now, in order."""
        self._advance(now_s)
        events = []
        while self._events and self._events[0].at_s <= now_s:
            events.append(self._events.popleft())
        return events

    def next_event_s(self) -> float | None:
        """When ``poll`` has something to say next, or should look whether it has; None when idle."""
        if self._events:
            return self._events[0].at_s
        heads = [queue[0] for queue in self._queues if queue]
        if not heads:
            return None
        if len(heads) == 1 and not heads[0].started:
            return max(self._free_at_s, heads[0].arrived_s)
        times = [self._took_s(head.left_bytes) if head.started else _LOOK_S for head in heads]
        return self._free_at_s + min(times)

    def busy_until(self, now_s: float) -> tuple[float, float]:
        """(busy seconds, bytes) up to now, transfers on the wire counted in part."""
        busy, done = self.counters.busy_s, float(self.counters.done_bytes)
        rate = self.rate_bytes_per_s
        heads = [queue[0] for queue in self._queues if queue and queue[0].started]
        if not rate or not self.charged:
            return busy, done
        part = sum(head.nbytes - head.left_bytes for head in heads) / rate
        if len(heads) == 1 and self._num_busy() == 1:
            part += max(0.0, min(now_s - self._free_at_s, self._took_s(heads[0].left_bytes)))
        if self._free_at_s > now_s:  # what is decided runs ahead by some packets
            part -= self._free_at_s - now_s
        return busy + part, done + part * rate

    # the schedule ------------------------------------------------------------------------------------------------------

    def _put(self, lane: int, transfer: _Transfer, now_s: float) -> None:
        self._advance(now_s)
        busy = [at for at, queue in enumerate(self._queues) if queue]
        if busy and lane not in busy:  # from here on lanes take turns
            if len(busy) == 1 and (head := self._queues[busy[0]][0]).started:
                self._settle(head, now_s)
            self._free_at_s = max(self._free_at_s, now_s)
        self._queues[lane].append(transfer)

    def _settle(self, head: _Transfer, now_s: float) -> None:
        """Write down how far the transfer that has the wire for itself is: whole packets."""
        assert self._lanes is not None and self.rate_bytes_per_s
        sent = (now_s - self._free_at_s) * self.rate_bytes_per_s
        if sent <= 0:
            return
        packets = -int(-sent // self._lanes.packet_bytes)
        nbytes = min(head.left_bytes, packets * self._lanes.packet_bytes)
        head.left_bytes -= nbytes
        self._free_at_s += self._took_s(nbytes)
        if not head.left_bytes:
            self._end(next(queue for queue in self._queues if queue and queue[0] is head))

    def _advance(self, now_s: float) -> None:
        """Decide what goes over the wire until now."""
        while self._free_at_s <= now_s:
            num_busy = self._num_busy()
            if num_busy == 1:
                queue = next(queue for queue in self._queues if queue)
                head = queue[0]
                if not head.started:
                    self._free_at_s = max(self._free_at_s, head.arrived_s)
                    self._start(head)
                end_s = self._free_at_s + self._took_s(head.left_bytes)
                if end_s > now_s:
                    return
                head.left_bytes, self._free_at_s = 0, end_s
                self._end(queue)
            elif num_busy:
                self._run()
            else:
                return

    def _run(self) -> None:
        """Some packets of the lane whose turn it is."""
        assert self._arbiter is not None and self._lanes is not None
        size = self._lanes.packet_bytes
        waiting, sizes = [0] * len(self._queues), [size] * len(self._queues)
        for lane, queue in enumerate(self._queues):
            if queue:
                left = queue[0].left_bytes
                waiting[lane], sizes[lane] = (left // size, size) if left >= size else (1, max(1, left))
        run = self._arbiter.next_run(waiting, sizes)
        assert run is not None, "a lane of a class has a weight"
        lane, packets = run
        head = self._queues[lane][0]
        if not head.started:
            self._start(head)
        nbytes = min(head.left_bytes, packets * sizes[lane])
        head.left_bytes -= nbytes
        self._free_at_s += self._took_s(nbytes)
        if not head.left_bytes:
            self._end(self._queues[lane])

    def _start(self, head: _Transfer) -> None:
        head.started = True
        self._events.append(NicEvent(head.mark, False, self._free_at_s))

    def _end(self, queue: deque[_Transfer]) -> None:
        head = queue.popleft()
        self.queued_bytes -= head.nbytes
        if self.charged:
            self.counters.done_bytes += head.nbytes
            self.counters.transfers += 1
            self.counters.busy_s += self._busy_s(head)
            self._count_class(head.nbytes, head.traffic_class)
        self._events.append(NicEvent(head.mark, True, self._free_at_s))

    def _count_class(self, nbytes: int, traffic_class: TrafficClass) -> None:
        if self.charged:
            by_class = self.counters.bytes_by_class
            by_class[traffic_class] = by_class.get(traffic_class, 0) + nbytes

    def _num_busy(self) -> int:
        return sum(1 for queue in self._queues if queue)

    def _took_s(self, nbytes: int) -> float:
        return nbytes / self.rate_bytes_per_s if self.rate_bytes_per_s else 0.0

    def _busy_s(self, transfer: _Transfer) -> float:
        if self.rate_bytes_per_s or not self.link_bytes_per_s:
            return self._took_s(transfer.nbytes)
        return transfer.nbytes / self.link_bytes_per_s if transfer.on_device else 0.0
