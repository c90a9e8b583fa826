"""Who is who among engines that share a model's experts, and how the bytes of a round are divided. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """An engine's place in its group."""

    rank: int
    nodes: tuple[str, ...]  # that each rank is on
    host: str  # where the store of the group listens
    port: int
    interface: str | None  # of the compute NIC, for TCP; None: the libraries choose
    tos: int  # type of service of TCP packets
    environment: Mapping[str, str]  # of NCCL, where the operator has set none

    @property
    def size(self) -> int:
        return len(self.nodes)

    def over_cnic_bytes(self, send: Sequence[int], receive: Sequence[int]) -> int:
        """Bytes of a round that leave over this engine's compute NIC, and as many come: to members on other nodes.

        Args: send, receive: as of ``splits``.
        """
        elsewhere = [node != self.nodes[self.rank] for node in self.nodes]
        return sum(out + back for out, back, far in zip(send, receive, elsewhere, strict=True) if far)


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
