"""Who comes first, kept up to date as ranks change: O(log n) a change, whatever their number."""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry", bound=tuple[Any, ...])
_SLACK = 64


class Ranking(Generic[Entry]):
    """Keys with a rank each, as one tuple an entry: the rank first, the key last; so no two compare equal.

    A heap whose entries are not removed when a rank changes: one that is out of date is passed over when it comes up.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, Entry] = {}  # by key
        self._heap: list[Entry] = []

    def set(self, entry: Entry) -> None:
        """Rank a key, or rank it anew."""
        key, heap, entries = entry[-1], self._heap, self._entries
        old = entries.get(key)
        if old == entry:
            return
        entries[key] = entry
        if heap and heap[0] is old:  # the usual change: who was first has got something
            heapreplace(heap, entry)
            return
        heappush(heap, entry)
        if len(heap) > 4 * len(entries) + _SLACK:  # mostly out of date; amortised over as many pushes
            self._heap = list(entries.values())
            heapify(self._heap)

    def discard(self, key: Hashable) -> None:
        """Take a key out, if it is in."""
        self._entries.pop(key, None)

    def first(self) -> Entry | None:
        """The least entry; None when there is none."""
        heap, entries = self._heap, self._entries
        while heap:
            entry = heap[0]
            if entries.get(entry[-1]) is entry:
                return entry
            heappop(heap)
        return None

    def __len__(self) -> int:
        return len(self._entries)
