"""What an engine computes on: a GPU of its own, or a share of a machine's cores."""

from collections.abc import Callable
from typing import Any, Protocol

from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.fair_share import FairShare, Job


class Processor(Protocol):
    """Carries out one piece of work at a time, in seconds of the engine alone on its processor."""

    shared: bool  # how long work takes depends on others
    busy_s: float

    def start(self, work_s: float, call: Callable[[Any], None], argument: Any = None) -> None: ...

    def stop(self) -> float:
        """End the work under way early. Returns: seconds of it that are done."""
        ...


class OwnProcessor:
    """A GPU: nobody else computes on it."""

    shared = False

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._started_s = 0.0
        self._number = 0
        self.busy_s = 0.0

    def start(self, work_s: float, call: Callable[[Any], None], argument: Any = None) -> None:
        self._number += 1
        self._started_s = self._loop.now_s
        self._loop.at(self._started_s + work_s, self._on_end, (self._number, call, argument))

    def stop(self) -> float:
        self._number += 1
        done = self._loop.now_s - self._started_s
        self.busy_s += done
        return done

    def _on_end(self, work: tuple[int, Callable[[Any], None], Any]) -> None:
        number, call, argument = work
        if number == self._number:
            self.busy_s += self._loop.now_s - self._started_s
            call(argument)


class SharedCores:
    """One of several engines that share a machine's cores."""

    shared = True

    def __init__(self, cores: FairShare) -> None:
        self._cores = cores
        self._job: Job | None = None
        self.busy_s = 0.0

    def start(self, work_s: float, call: Callable[[Any], None], argument: Any = None) -> None:
        self._job = self._cores.start(work_s, self._on_end, (work_s, call, argument))

    def stop(self) -> float:
        assert self._job is not None
        done = self._cores.cancel(self._job)
        self.busy_s += done
        return done

    def _on_end(self, work: tuple[float, Callable[[Any], None], Any]) -> None:
        work_s, call, argument = work
        self.busy_s += work_s
        call(argument)
