"""The last decisions, bounded in number and by what they were made on."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import islice

from dualpath_ray.scheduler.history import LoadHistory
from dualpath_ray.scheduler.state import Decision

MOST_LOADS = 200_000  # loads of groups that decisions are kept with: some 200 MB


class BoundedLog:
    """Forgets the oldest decisions. Numbers of decisions count up."""

    def __init__(self, max_decisions: int, max_loads: int = MOST_LOADS) -> None:
        self._max_decisions, self._max_loads = max_decisions, max_loads
        self._decisions: deque[Decision] = deque()
        self._loads: deque[int] = deque()  # of each: those that were not there for the decision before it
        self._num_loads = 0
        self._history: LoadHistory | None = None
        self._num_changes = 0

    def __len__(self) -> int:
        return len(self._decisions)

    def extend(self, decisions: Iterable[Decision]) -> None:
        """Decisions in order, with or without their inputs."""
        keep, count = self._decisions.append, self._loads.append
        for decision in decisions:
            loads = 0
            if decision.inputs is not None:
                moment = decision.inputs.loads
                if moment.history is self._history:
                    loads = moment.num_changes - self._num_changes
                else:  # one that has started anew holds all groups
                    self._history = moment.history
                    loads = len(moment.history.prefill) + len(moment.history.decode) + moment.num_changes
                self._num_changes = moment.num_changes
            keep(decision)
            count(loads)
            self._num_loads += loads
        while len(self._decisions) > self._max_decisions or (
            self._num_loads > self._max_loads and len(self._decisions) > 1
        ):
            self._decisions.popleft()
            self._num_loads -= self._loads.popleft()

    def since(self, seq: int, most: int) -> list[Decision]:
        """The first ``most`` after number ``seq`` that are still here."""
        first = bisect_right(self._decisions, seq, key=lambda decision: decision.seq)
        return list(islice(self._decisions, first, first + most))
