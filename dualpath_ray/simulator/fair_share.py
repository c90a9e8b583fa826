"""A resource that those who use it share max-min fairly: storage servers' bandwidth, a machine's cores.

All users have the same cap, so max-min fairness is processor sharing: each gets ``min(cap, capacity / n)``. One virtual
clock counts what every user has been served since the start; a job that begins when the clock shows *v* and needs *w*
ends when it shows *v + w*, whatever joins or leaves until then. So a change costs O(log n), not a new rate for each.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from dualpath_ray.simulator.events import EventLoop

_TOLERANCE = 1e-9  # of virtual time, relative: rounding must not leave a job with nothing to do


class Job:
    """Work under way. ``start_v`` and ``end_v`` stand on the virtual clock."""

    __slots__ = ("argument", "call", "cancelled", "end_v", "start_v")

    def __init__(self, start_v: float, end_v: float, call: Callable[[Any], None], argument: Any) -> None:
        self.start_v, self.end_v, self.call, self.argument = start_v, end_v, call, argument
        self.cancelled = False


class FairShare:
    """Jobs at a common rate: units are core-seconds or bytes, rates are units a second."""

    def __init__(self, loop: EventLoop, capacity: float, cap: float) -> None:
        """Args: capacity: of the resource; cap: of one user."""
        self._loop, self._capacity, self._cap = loop, capacity, cap
        self._heap: list[tuple[float, int, Job]] = []
        self._running = 0
        self._asked = 0
        self._virtual = 0.0
        self._since_s = 0.0
        self._rate = cap
        self._wake = 0
        self.served = 0.0

    def start(self, work: float, call: Callable[[Any], None], argument: Any = None) -> Job:
        """Begin a job; ``call(argument)`` when its work is done."""
        self._advance()
        job = Job(self._virtual, self._virtual + work, call, argument)
        self._asked += 1
        heappush(self._heap, (job.end_v, self._asked, job))
        self._running += 1
        self._change()
        return job

    def cancel(self, job: Job) -> float:
        """End a job that runs. Returns: the work that has been done on it."""
        self._advance()
        job.cancelled = True
        self._running -= 1
        self._change()
        return min(self._virtual, job.end_v) - job.start_v

    def _advance(self) -> None:
        passed = self._loop.now_s - self._since_s
        self._since_s = self._loop.now_s
        self._virtual += passed * self._rate
        self.served += passed * self._rate * self._running

    def _change(self) -> None:
        if self._running:
            self._rate = min(self._cap, self._capacity / self._running)
        heap = self._heap
        while heap and heap[0][2].cancelled:
            heappop(heap)
        self._wake += 1
        if heap:
            left = max(0.0, heap[0][0] - self._virtual)
            self._loop.at(self._loop.now_s + left / self._rate, self._on_wake, self._wake)

    def _on_wake(self, wake: int) -> None:
        if wake != self._wake:  # something began or ended meanwhile
            return
        self._advance()
        heap = self._heap
        ended: list[Job] = []
        limit = self._virtual + _TOLERANCE * max(1.0, abs(self._virtual))
        while heap and (heap[0][0] <= limit or heap[0][2].cancelled or not ended):
            job = heappop(heap)[2]
            if not job.cancelled:
                ended.append(job)
        self._running -= len(ended)
        self._change()
        for job in ended:
            job.call(job.argument)
