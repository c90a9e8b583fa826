"""What the live page remembers: utilisation of the last two minutes, when the read path changed, the last decisions. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

KEPT_S = 120.0
KEPT_DECISIONS = 200


class History:
    """Points in time are wall-clock seconds, and given."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, dict[str, float | None]]] = deque()
        self._flips: deque[tuple[float, str]] = deque()
        self._path: str | None = None
        self._decisions: deque[dict[str, Any]] = deque(maxlen=KEPT_DECISIONS)

    def add(self, at_s: float, shares: Mapping[str, float | None], read_path: str) -> None:
        """Utilisation of each storage NIC, and the path that was in force; whoever changed it, a flip is seen here."""
        if self._path not in (None, read_path):
            self._flips.append((at_s, read_path))
        self._path = read_path
        self._points.append((at_s, dict(shares)))
        for kept in (self._points, self._flips):
            while kept and kept[0][0] < at_s - KEPT_S:
                kept.popleft()

    def add_decisions(self, rows: Iterable[dict[str, Any]]) -> None:
        """Rows of ``decision_row``, in order; those that are known already change nothing."""
        for row in rows:
            if row["seq"] > self.last_seq:
                self._decisions.append(row)

    def forget(self) -> None:
        """The system has ended: the next one of its name counts from the beginning."""
        self._decisions.clear()
        self._path = None

    @property
    def last_seq(self) -> int:
        """Number of the newest decision; 0 before the first."""
        return self._decisions[-1]["seq"] if self._decisions else 0

    def decisions(self, since: int, most: int = KEPT_DECISIONS) -> list[dict[str, Any]]:
        """The newest ``most`` after a number, in order."""
        return [row for row in self._decisions if row["seq"] > since][-most:]

    def points(self) -> list[tuple[float, dict[str, float | None]]]:
        return list(self._points)

    def flips(self) -> list[tuple[float, str]]:
        return list(self._flips)
