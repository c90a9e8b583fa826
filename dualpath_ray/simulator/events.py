"""The simulator's clock: what happens next, and when. Simulated time never runs back."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class EventLoop:
    """A heap of calls by time; at one time they come in the order in which they were asked for, so a run repeats exactly."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.num_events = 0
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._asked = 0

    def at(self, time_s: float, call: Callable[[Any], None], argument: Any = None) -> None:
        """Call at a time that is not in the past.

        Raises: ValueError when it is: a model has lost its way.
        """
        if time_s < self.now_s:
            raise ValueError(f"an event at {time_s} s was asked for at {self.now_s} s")
        self._asked += 1
        heappush(self._heap, (time_s, self._asked, call, argument))

    def run(self, until_s: float = float("inf")) -> None:
        """Until nothing is left to happen, or the next event would be after ``until_s``."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            self.now_s, _, call, argument = heappop(heap)
            self.num_events += 1
            call(argument)
