"""Which tokens of an engine's HBM belong to whom: contiguous ranges, since attention reads a sequence in one piece. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """Tokens [source, source + count) go to [target, target + count), which may overlap; target < source."""

    source: int
    target: int
    count: int


class TokenRanges:
    """Ranges of ``num_tokens`` tokens, first fit. When only gaps are free, ranges move together."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self._ranges: dict[int, tuple[int, int]] = {}  # owner -> (first, count), in order of first
        self._owners = 0

    @property
    def free_tokens(self) -> int:
        return self.num_tokens - sum(count for _, count in self._ranges.values())

    def first(self, owner: int) -> int:
        """Where an owner's range begins now."""
        return self._ranges[owner][0]

    def take(self, count: int) -> tuple[int, list[Move]] | None:
        """A range of ``count`` tokens. None when not so many are free.

        Returns: its owner, and what has to be moved before the range is used, in this order.
        """
        if count > self.free_tokens:
            return None
        first = self._gap(count)
        moves = self._close_gaps() if first is None else []
        if first is None:
            first = self._gap(count)
            assert first is not None
        self._owners += 1
        self._ranges[self._owners] = (first, count)
        self._ranges = dict(sorted(self._ranges.items(), key=lambda item: item[1]))
        return self._owners, moves

    def give(self, owner: int) -> None:
        """The owner's tokens are free."""
        del self._ranges[owner]

    def _gap(self, count: int) -> int | None:
        """Start of the first gap that is large enough."""
        end = 0
        for first, held in self._ranges.values():
            if first - end >= count:
                return end
            end = first + held
        return end if self.num_tokens - end >= count else None

    def _close_gaps(self) -> list[Move]:
        moves, end = [], 0
        for owner, (first, count) in self._ranges.items():
            if first > end:
                moves.append(Move(first, end, count))
                self._ranges[owner] = (end, count)
            end += count
        return moves
