"""What is known of a system, between the thread that asks it and those who look at the page."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from dualpath_ray.ui.history import History
from dualpath_ray.ui.view import decision_row, view_of

NOT_YET = "The system has not answered yet."


class Watched(Protocol):
    """A running system as the page needs it. Every method may raise an error of our own tree."""

    def status(self) -> dict[str, Any]:
        """Of ``status_of``, since the call before."""

    def decisions(self, since: int, most: int) -> list[dict[str, Any]]:
        """Records for ``decision_row``, of the newest ``most`` after a number; of all, where it has not come so far."""

    def set_read_path(self, name: str) -> None:
        """From the next decision on."""


class Feed:
    """The newest view, the history, and what is wrong. ``version`` counts up with each change."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Args: clock: wall clock, in seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._history = History()
        self._status: dict[str, Any] | None = None
        self._view: dict[str, Any] | None = None
        self._problem: str | None = NOT_YET
        self.version = 0

    def update(self, status: dict[str, Any], records: Iterable[dict[str, Any]]) -> None:
        """What the system tells now."""
        with self._lock:
            at_s = self._clock()
            if status["scheduler"]["num_decisions"] < self._history.last_seq:
                self._history.forget()
            self._status, self._view, self._problem = status, view_of(status, at_s), None
            self._history.add(at_s, self._view["snics"], status["read_path"])
            self._history.add_decisions(map(decision_row, records))
            self.version += 1

    def fail(self, sentence: str) -> None:
        """The system tells nothing now."""
        with self._lock:
            if sentence != self._problem:
                self.version += 1
            self._problem = sentence

    @property
    def last_seq(self) -> int:
        with self._lock:
            return self._history.last_seq

    def status(self) -> tuple[dict[str, Any] | None, str | None]:
        """(the last status, why there is no newer one)."""
        with self._lock:
            return self._status, self._problem

    def view(self) -> dict[str, Any]:
        """The last view with the flips of the last two minutes, and ``problem``: None, or why there is no newer one."""
        with self._lock:
            return {**(self._view or {}), "flips": self._history.flips(), "problem": self._problem}

    def points(self) -> list[tuple[float, dict[str, float | None]]]:
        """(second, utilisation of each storage NIC) of the last two minutes."""
        with self._lock:
            return self._history.points()

    def decisions(self, since: int, most: int) -> list[dict[str, Any]]:
        """Rows, in order."""
        with self._lock:
            return self._history.decisions(since, most)
