"""Who is who among engines that share a model's experts, and how the bytes of a round are divided. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

PIECE_BYTES = 16 << 20  # that a member sends at a time: what a group's memory has room for


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """An engine's place in its group."""

    who: str  # the engine, for errors
    rank: int
    nodes: tuple[str, ...]  # that each rank is on
    host: str  # where the store of the group listens
    port: int
    tos: int  # type of service of TCP packets
    environment: Mapping[str, str]  # of gloo and NCCL

    @property
    def size(self) -> int:
        return len(self.nodes)

    def over_cnic_bytes(self, send: Sequence[int], receive: Sequence[int]) -> int:
        """Bytes of a round that leave over this engine's compute NIC, and as many come: to members on other nodes.

        Args: send, receive: as of ``splits``.
        """
        elsewhere = [node != self.nodes[self.rank] for node in self.nodes]
        return sum(out + back for out, back, far in zip(send, receive, elsewhere, strict=True) if far)


def pieces(sizes: Sequence[int]) -> Iterator[list[int]]:
    """A round's bytes in parts of no more than ``PIECE_BYTES`` of any member. Args: sizes: as of ``splits``."""
    left = list(sizes)
    while any(left):
        yield [min(each, PIECE_BYTES) for each in left]
        left = [max(0, each - PIECE_BYTES) for each in left]


def splits(sizes: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    """Bytes that a rank sends to each in the dispatch, and gets from each; in the combine they go back.

    Args: sizes: what each rank has for all others together; what does not divide evenly goes to the first of them.
    """

    def share(source: int, to: int) -> int:
        if source == to:
            return 0
        others = len(sizes) - 1
        place = to - (to > source)
        return sizes[source] // others + (place < sizes[source] % others)

    ranks = range(len(sizes))
    return [share(rank, to) for to in ranks], [share(source, rank) for source in ranks]
