"""Rows of a timeline, in each of which one thing ends before the next begins. Pure."""

from collections import defaultdict

MOST_ROWS = 16  # of a place; what finds none free is drawn over the last one, where viewers may leave it out


class TimelineRows:
    """Viewers of timelines drop what overlaps in a row; a NIC's direction has many transfers under way at once."""

    def __init__(self) -> None:
        self._busy_until_s: dict[str, list[float]] = defaultdict(list)

    def row(self, place: str, start_s: float, stop_s: float) -> int:
        """The first row of the place, from 0, that is free then. Spans are told in the order of their ends."""
        rows = self._busy_until_s[place]
        for number, until_s in enumerate(rows):
            if until_s <= start_s:
                rows[number] = stop_s
                return number
        if len(rows) < MOST_ROWS:
            rows.append(stop_s)
            return len(rows) - 1
        rows[-1] = max(rows[-1], stop_s)
        return len(rows) - 1
