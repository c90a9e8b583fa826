"""Who comes first, kept up to date as ranks change: O(log n) a change, whatever their number."""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
_SLACK = 64


class Ranking(Generic[Key]):
    """Keys with a rank each; ranks compare with one another and no two are equal.

    A heap whose entries are not removed when a rank changes: one that is out of date is passed over when it comes up.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, tuple[Any, Key]] = {}
        self._heap: list[tuple[Any, Key]] = []

    def set(self, key: Key, rank: Any) -> None:
        """Rank a key, or rank it anew."""
        entry = (rank, key)
        self._entries[key] = entry
        heappush(self._heap, entry)
        if len(self._heap) > 4 * len(self._entries) + _SLACK:  # mostly out of date; amortised over as many pushes
            self._heap = list(self._entries.values())
            heapify(self._heap)

    def discard(self, key: Key) -> None:
        """Take a key out, if it is in."""
        self._entries.pop(key, None)

    def first(self) -> Key | None:
        """The key with the least rank; None when there is none."""
        heap, entries = self._heap, self._entries
        while heap:
            entry = heap[0]
            if entries.get(entry[1]) is entry:
                return entry[1]
            heappop(heap)
        return None

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
