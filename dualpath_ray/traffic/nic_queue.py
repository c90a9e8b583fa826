"""One direction of an emulated NIC: lanes over a rate limit, with exact byte counters. Pure.

A direction keeps an absolute schedule: while one lane has transfers, each starts when it has arrived and the one before it
is through, and ends ``nbytes / rate`` later. While several have, the arbiter lets their packets take turns (appendix A.1).
Arrivals are stamped, so a late caller shifts when it *learns* of an end, never the schedule: the long-run rate is exact and
there is no burst. Whoever must not learn late is told ahead: while such a transfer is here, what goes over the wire is
decided ``AHEAD_S`` before it goes, and stays so whatever comes later. A direction without a rate serves at once: a real
device takes the time that it takes. Its link's rate, where known, tells how busy it was, and slows nothing down.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Any

from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.traffic.arbiter import Arbiter

CHUNK_S = 0.01  # of an emulated rate: real bytes run ahead of their schedule by no more than this (appendix A.1)
AHEAD_S = 1e-3  # an answer travels meanwhile, through two processes; and who comes meanwhile may have to wait so long
LEAST_CHUNK_BYTES = 256 * 1024  # smaller copies would cost more in calls than in bytes
_FEW_PACKETS = 16  # fewer are decided turn by turn
_LEAST_LOOK_S, _LOOK_S = 1e-4, 1e-3  # between two looks at whether a lane that must wait has got its turn
LEAD_S = AHEAD_S + _LEAST_LOOK_S  # so long ahead it is decided: whoever looks late by that still tells in time


@dataclass(frozen=True, slots=True)
class NicEvent:
    """A transfer started or ended on the wire."""

    transfer: Any  # the caller's own mark
    finished: bool
    at_s: float


@dataclass(slots=True, eq=False)
class Transfer:
    """What was submitted, to whoever may have to hurry it."""

    mark: object
    nbytes: int
    traffic_class: TrafficClass
    arrived_s: float
    on_device: bool
    left_bytes: int
    lane: int
    told_ahead: bool = False
    started: bool = False
    ended: bool = False
    urgent_at_s: float = inf  # from when on it goes in another lane


@dataclass(slots=True)
class NicCounters:
    """What a direction has done so far; display and reports read it."""

    done_bytes: int = 0
    busy_s: float = 0.0
    transfers: int = 0
    promoted: int = 0  # transfers that went on in another class's lane
    bytes_by_class: dict[str, int] = field(default_factory=dict)


class NicQueue:
    """One direction of a NIC. Times are seconds of any one clock, passed in; ``now_s`` never decreases."""

    def __init__(
        self, name: str, rate_bytes_per_s: float | None, charged: bool = True, lanes: Lanes | None = None
    ) -> None:
        """Args: charged: False takes no time and counts nothing; lanes: None has one for all classes."""
        self.name = name
        self.rate_bytes_per_s = rate_bytes_per_s if charged else None
        self.charged = charged
        self.link_bytes_per_s: float | None = None  # of a real device
        self.counters = NicCounters()
        self._lanes = used = lanes if self.rate_bytes_per_s else None
        self._queues: list[deque[Transfer]] = [deque() for _ in range(used.tables.max_vls if used else 1)]
        self._arbiter = Arbiter(used.tables) if used else None
        self._high = {entry.vl for entry in used.tables.high if entry.weight} if used else set[int]()
        self._events: deque[NicEvent] = deque()  # that ``poll`` has not told yet
        self._ahead: list[NicEvent] = []  # those that it tells whenever they are
        self._num_ahead = 0  # transfers queued that are told ahead
        self._urgent: list[tuple[float, int, Transfer]] = []  # those that are to be hurried, soonest first; a heap
        self._numbers = count()
        self._num_queued = 0
        self._part_bytes = 0  # sent of transfers that have not ended
        self._free_at_s = float("-inf")  # all that is decided is through by then
        self._since_s = float("-inf")  # the wire is never idle from then until it is free; so many bytes:
        self._since_bytes = 0
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
        self,
        mark: object,
        nbytes: int,
        traffic_class: TrafficClass,
        now_s: float,
        on_device: bool = True,
        urgent_at_s: float | None = None,
    ) -> Transfer:
        """Queue a transfer; ``poll`` tells of its start and its end.

        Args:   on_device: whether a real device carries it, whose link it then keeps busy; urgent_at_s: as of ``hurry``.
        Raises: ConfigError for a class without a lane.
        """
        self._advance(now_s)
        if urgent_at_s is not None and urgent_at_s <= now_s:
            traffic_class, urgent_at_s = TrafficClass.KV_URGENT, None
        transfer = Transfer(mark, nbytes, traffic_class, now_s, on_device, nbytes, self._lane(traffic_class))
        self._add(transfer)
        if urgent_at_s is not None:
            self.hurry(transfer, urgent_at_s, now_s)
        return transfer

    def submit_ahead(
        self,
        mark: object,
        nbytes: int,
        traffic_class: TrafficClass,
        posted_s: float,
        now_s: float,
        on_device: bool = True,
    ) -> Transfer:
        """Queue a transfer of whose start and end ``poll`` tells as soon as they are certain.

        It arrives when it was posted, or as soon after that as nothing is decided yet; ``arrived_s`` says when.

        Args:   as of ``submit``.
        Raises: ConfigError for a class without a lane.
        """
        at_s = min(now_s, max(posted_s, self._free_at_s))
        self._advance(at_s)
        transfer = Transfer(
            mark, nbytes, traffic_class, at_s, on_device, nbytes, self._lane(traffic_class), told_ahead=True
        )
        self._add(transfer)
        self._num_ahead += 1
        return transfer

    def _lane(self, traffic_class: TrafficClass) -> int:
        return self._lanes.lane(traffic_class) if self._lanes else 0

    def _add(self, transfer: Transfer) -> None:
        self._put(transfer, transfer.arrived_s)
        self._num_queued += 1
        self.queued_bytes += transfer.nbytes

    def hurry(self, transfer: Transfer, urgent_at_s: float, now_s: float) -> None:
        """From then on what is left of it goes in the lane of urgent KV. Nothing happens where there are no lanes."""
        urgent_at_s = max(urgent_at_s, now_s)  # what is decided is not decided again
        if not self._lanes or transfer.ended or urgent_at_s >= transfer.urgent_at_s:
            return
        transfer.urgent_at_s = urgent_at_s
        heappush(self._urgent, (urgent_at_s, next(self._numbers), transfer))
        if len(self._urgent) > 2 * self._num_queued + 64:  # what has ended must not be kept until its time comes
            self._urgent = [entry for entry in self._urgent if self._waits(entry)]
            heapify(self._urgent)
        self._advance(now_s)

    @staticmethod
    def _waits(entry: tuple[float, int, Transfer]) -> bool:
        """Whether it is still to be hurried, and has not been told to hurry more since."""
        return not entry[2].ended and entry[2].urgent_at_s == entry[0]

    def poll(self, now_s: float) -> list[NicEvent]:
        """Starts and ends up to now, in order; before them those that are told ahead."""
        self._advance(now_s)
        events, self._ahead = self._ahead, []
        while self._events and self._events[0].at_s <= now_s:
            events.append(self._events.popleft())
        return events

    def next_event_s(self) -> float | None:
        """When ``poll`` has something to say next, or should look whether it has; None when idle."""
        if self._ahead:
            return self._ahead[0].at_s - AHEAD_S  # it was certain by then
        at_s = self._events[0].at_s if self._events else inf
        if self._num_queued and (self._num_ahead or not self._events):
            at_s = min(at_s, self._next_look_s())
        return None if at_s == inf else at_s

    def _next_look_s(self) -> float:
        """When something more may start or end, as far as that is told."""
        heads = [queue[0] for queue in self._queues if queue]
        if len(heads) == 1:
            head = heads[0]
            at_s = self._through_s(head) if head.started else max(self._free_at_s, head.arrived_s)
        else:  # one that has not started may have to wait, and may be through as soon as it has taken its time
            took = [self._took_s(head.left_bytes) for head in heads]
            waits = [least if head.started else min(_LOOK_S, least) for head, least in zip(heads, took, strict=True)]
            soonest = [
                0.0 if head.started and head.lane in self._high else _LEAST_LOOK_S for head in heads
            ]  # who is in the low table alone may wait for long, and is not looked for in vain at each packet of others
            at_s = self._free_at_s + min(map(max, waits, soonest))
        at_s -= self._lead_s
        while self._urgent and not self._waits(self._urgent[0]):
            heappop(self._urgent)
        return min(at_s, self._urgent[0][0]) if self._urgent else at_s

    def busy_until(self, now_s: float) -> tuple[float, float]:
        """(busy seconds, bytes) up to now, transfers on the wire counted in part."""
        self._advance(now_s)
        busy, done = self.counters.busy_s, float(self.counters.done_bytes)
        rate = self.rate_bytes_per_s
        if not rate or not self.charged:
            return busy, done
        part = self._part_bytes / rate
        if self._free_at_s > now_s:  # what is decided runs ahead by some packets
            part -= self._free_at_s - now_s
        elif self._num_queued:
            heads = [queue[0] for queue in self._queues if queue]
            if len(heads) == 1 and heads[0].started:
                part += min(now_s - self._free_at_s, self._took_s(heads[0].left_bytes))
        return busy + part, done + part * rate

    def queued_by_class(self) -> dict[str, int]:
        """``queued_bytes`` of each class that has any."""
        out: dict[str, int] = {}
        for lane, queue in enumerate(self._queues):
            for transfer in queue:
                if transfer.lane == lane:  # else it went on in another one
                    out[transfer.traffic_class] = out.get(transfer.traffic_class, 0) + transfer.nbytes
        return out

    def lanes(self) -> dict[str, int]:
        """Lane of each class; empty where a direction has none of its own."""
        return {each: self._lanes.lane(each) for each in self._lanes.service_levels} if self._lanes else {}

    # the schedule ------------------------------------------------------------------------------------------------------

    @property
    def _lead_s(self) -> float:
        """How long before it goes over the wire something is decided."""
        return LEAD_S if self._num_ahead else 0.0

    def _put(self, transfer: Transfer, now_s: float) -> None:
        """Into its lane. All is decided until now."""
        busy = [queue for queue in self._queues if queue]
        if busy and not self._queues[transfer.lane]:  # from here on lanes take turns
            if len(busy) == 1 and busy[0][0].started:
                self._settle(busy[0][0], now_s)
            self._goes_on_from(max(self._free_at_s, now_s))
        self._queues[transfer.lane].append(transfer)

    def _promote(self, transfer: Transfer, at_s: float) -> None:
        """All is decided until then."""
        assert self._lanes is not None
        to, queue = self._lanes.lane(TrafficClass.KV_URGENT), self._queues[transfer.lane]
        if transfer.lane == to:
            return
        if transfer is queue[0] and transfer.started and self._num_busy() == 1:
            self._settle(transfer, at_s)
        if transfer.ended:
            return
        before = transfer.lane
        transfer.traffic_class, transfer.lane, transfer.arrived_s = TrafficClass.KV_URGENT, to, at_s
        self._pass_over(before)
        self._put(transfer, at_s)
        self.counters.promoted += 1

    def _pass_over(self, lane: int) -> None:
        """Who went on in another lane stays where it was until it would be its turn: to look for it takes longer."""
        queue = self._queues[lane]
        while queue and queue[0].lane != lane:
            queue.popleft()

    def _settle(self, head: Transfer, now_s: float) -> None:
        """Write down how far the transfer that has the wire for itself is: whole packets."""
        assert self._lanes is not None and self.rate_bytes_per_s
        sent = (now_s + self._lead_s - self._free_at_s) * self.rate_bytes_per_s
        if sent > 0:
            packets = -int(-sent // self._lanes.packet_bytes)
            self._send(head, min(head.left_bytes, packets * self._lanes.packet_bytes))

    def _advance(self, now_s: float) -> None:
        """Decide what goes over the wire until now."""
        while self._urgent and self._urgent[0][0] <= now_s:
            entry = heappop(self._urgent)
            if self._waits(entry):
                self._decide(entry[0])
                if not entry[2].ended:
                    self._promote(entry[2], entry[0])
        self._decide(now_s)

    def _decide(self, now_s: float) -> None:
        while self._num_queued and self._free_at_s - self._lead_s <= now_s:
            if self._num_busy() > 1:
                self._run(now_s)
                continue
            head = next(queue for queue in self._queues if queue)[0]
            if not head.started:
                self._goes_on_from(max(self._free_at_s, head.arrived_s))
                self._start(head)
            if self._through_s(head) - self._lead_s > now_s:
                return
            self._send(head, head.left_bytes)

    def _run(self, now_s: float) -> None:
        """Some packets of the lane whose turn it is: those that begin by now, or nearly so many; at least one."""
        assert self._arbiter is not None and self._lanes is not None and self.rate_bytes_per_s
        size = self._lanes.packet_bytes
        waiting, sizes = [0] * len(self._queues), [size] * len(self._queues)
        for lane, queue in enumerate(self._queues):
            if queue:
                left = queue[0].left_bytes
                waiting[lane], sizes[lane] = (left // size, size) if left >= size else (1, max(1, left))
        due = int((now_s + self._lead_s - self._free_at_s) * self.rate_bytes_per_s / size)
        if due >= _FEW_PACKETS:  # who has not started keeps its first packet: when that goes is told
            started = [n if n and self._queues[lane][0].started else min(n, 1) for lane, n in enumerate(waiting)]
            rounds = self._arbiter.next_rounds(started, sizes, due)
            for lane, packets in rounds:
                self._send(self._queues[lane][0], packets * size)
            if rounds:
                return
        run = self._arbiter.next_run(waiting, sizes, max(1, due))
        assert run is not None, "a lane of a class has a weight"
        lane, packets = run
        head = self._queues[lane][0]
        if not head.started:
            self._start(head)
        self._send(head, min(head.left_bytes, packets * sizes[lane]))

    def _start(self, head: Transfer) -> None:
        head.started = True
        self._tell(head, False)

    def _send(self, head: Transfer, nbytes: int) -> None:
        """So many bytes of it go next."""
        head.left_bytes -= nbytes
        self._part_bytes += nbytes
        self._since_bytes += nbytes  # one sum, so that it is the same time whatever the parts are
        self._free_at_s = self._since_s + self._took_s(self._since_bytes)
        if not head.left_bytes:
            self._end(head)

    def _end(self, head: Transfer) -> None:
        self._queues[head.lane].popleft()
        self._pass_over(head.lane)
        head.ended = True
        self._num_queued -= 1
        self._num_ahead -= head.told_ahead
        if not self._num_queued:
            self._urgent.clear()
        self._part_bytes -= head.nbytes
        self.queued_bytes -= head.nbytes
        if self.charged:
            self.counters.done_bytes += head.nbytes
            self.counters.transfers += 1
            self.counters.busy_s += self._busy_s(head)
            self._count_class(head.nbytes, head.traffic_class)
        self._tell(head, True)
        self._goes_on_from(self._free_at_s)

    def _tell(self, head: Transfer, finished: bool) -> None:
        (self._ahead if head.told_ahead else self._events).append(NicEvent(head.mark, finished, self._free_at_s))

    def _goes_on_from(self, at_s: float) -> None:
        self._since_s = self._free_at_s = at_s
        self._since_bytes = 0

    def _count_class(self, nbytes: int, traffic_class: TrafficClass) -> None:
        if self.charged:
            by_class = self.counters.bytes_by_class
            by_class[traffic_class] = by_class.get(traffic_class, 0) + nbytes

    def _num_busy(self) -> int:
        return sum(1 for queue in self._queues if queue)

    def _through_s(self, head: Transfer) -> float:
        """When it is if nothing else goes over the wire."""
        return self._since_s + self._took_s(self._since_bytes + head.left_bytes)

    def _took_s(self, nbytes: int) -> float:
        return nbytes / self.rate_bytes_per_s if self.rate_bytes_per_s else 0.0

    def _busy_s(self, transfer: Transfer) -> float:
        if self.rate_bytes_per_s or not self.link_bytes_per_s:
            return self._took_s(transfer.nbytes)
        return transfer.nbytes / self.link_bytes_per_s if transfer.on_device else 0.0
