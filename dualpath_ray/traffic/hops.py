"""The two read paths as hops over links (section 4.1): which links the bytes of a request cross, and how many bytes.

Everything in or out of a GPU goes through its compute NIC (section 5), so a copy between a buffer and the HBM of the same
node is a loopback that loads both directions of that NIC. Planning sums this table; tests hold the simulator against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dualpath_ray.base.types import ReadPath, Role


class LinkKind(StrEnum):
    """A kind of link. NICs are full duplex, seen from the node as in ``Direction``; DRAM is half duplex.

    A CNIC's OUT is what the paper calls its read (of memory), its IN the write. There is one CNIC a GPU; one SNIC and
    one DRAM a node.
    """

    PE_SNIC_IN = "pe_snic_in"
    PE_DRAM = "pe_dram"
    PE_CNIC_IN = "pe_cnic_in"
    PE_CNIC_OUT = "pe_cnic_out"
    DE_SNIC_IN = "de_snic_in"
    DE_SNIC_OUT = "de_snic_out"
    DE_DRAM = "de_dram"
    DE_CNIC_IN = "de_cnic_in"
    DE_CNIC_OUT = "de_cnic_out"

    @property
    def role(self) -> Role:
        """The side whose nodes have this link."""
        return Role.PREFILL if self.value.startswith("pe_") else Role.DECODE

    @property
    def is_cnic(self) -> bool:
        return "_cnic_" in self.value

    @property
    def is_dram(self) -> bool:
        return self.value.endswith("_dram")


@dataclass(frozen=True, slots=True)
class Hop:
    """One move of a request's KV, all layers together.

    ``steps`` are the numbers of the paper's Figure 4 (section 4.1). ``per_layer`` hops move one layer at a time, each
    overlapping with the computation of another layer; the others move the KV whole.
    """

    steps: str
    what: str
    links: tuple[LinkKind, ...]  # each byte crosses every one of them once
    moves_hit: bool
    moves_new: bool
    per_layer: bool = False

    @property
    def is_loopback(self) -> bool:
        """Between the buffer and the HBM of one node: where a copy engine does it, no CNIC is loaded."""
        return any(both.issubset(self.links) for both in (_PE_LOOPBACK, _DE_LOOPBACK))

    def nbytes(self, hit_bytes: float, new_bytes: float) -> float:
        """Bytes that this hop moves of a request with so many bytes of hit and of newly computed KV."""
        return self.moves_hit * hit_bytes + self.moves_new * new_bytes


_PE_LOOPBACK = {LinkKind.PE_CNIC_IN, LinkKind.PE_CNIC_OUT}
_DE_LOOPBACK = {LinkKind.DE_CNIC_IN, LinkKind.DE_CNIC_OUT}
_DE_BUFFER_AND_HBM = (LinkKind.DE_DRAM, LinkKind.DE_CNIC_OUT, LinkKind.DE_CNIC_IN)  # either way
_PE_HBM_TO_DE_BUFFER = (LinkKind.PE_CNIC_OUT, LinkKind.DE_CNIC_IN, LinkKind.DE_DRAM)

HOPS: Mapping[ReadPath, tuple[Hop, ...]] = {
    ReadPath.PE: (
        Hop("1-2", "storage to PE buffer", (LinkKind.PE_SNIC_IN, LinkKind.PE_DRAM), True, False),
        Hop(
            "3-4",
            "PE buffer to PE HBM",
            (LinkKind.PE_DRAM, LinkKind.PE_CNIC_OUT, LinkKind.PE_CNIC_IN),
            moves_hit=True,
            moves_new=False,
            per_layer=True,
        ),
        Hop("5-7", "PE HBM to DE buffer", _PE_HBM_TO_DE_BUFFER, moves_hit=True, moves_new=True, per_layer=True),
        Hop("8-9", "DE buffer to DE HBM", _DE_BUFFER_AND_HBM, moves_hit=True, moves_new=True),
    ),
    ReadPath.DE: (
        Hop("1-2", "storage to DE buffer", (LinkKind.DE_SNIC_IN, LinkKind.DE_DRAM), True, False),
        Hop(
            "3-5",
            "DE buffer to PE HBM",
            (LinkKind.DE_DRAM, LinkKind.DE_CNIC_OUT, LinkKind.PE_CNIC_IN),
            moves_hit=True,
            moves_new=False,
            per_layer=True,
        ),
        Hop("after 5", "PE HBM to DE buffer", _PE_HBM_TO_DE_BUFFER, moves_hit=False, moves_new=True, per_layer=True),
        Hop("6-7", "DE buffer to DE HBM", _DE_BUFFER_AND_HBM, moves_hit=True, moves_new=True),
    ),
}

# Persisting what is new, on both paths alike: the prompt's new KV lies in the DE buffer already.
PERSIST_PROMPT: tuple[Hop, ...] = (
    Hop("persist", "DE buffer to storage", (LinkKind.DE_DRAM, LinkKind.DE_SNIC_OUT), moves_hit=False, moves_new=True),
)
# Of a token that the decode engine generates, its KV is the new one.
PERSIST_GENERATED: tuple[Hop, ...] = (
    Hop("persist", "DE HBM to DE buffer", _DE_BUFFER_AND_HBM, moves_hit=False, moves_new=True),
    *PERSIST_PROMPT,
)


def link_bytes(hops: tuple[Hop, ...], hit_bytes: float, new_bytes: float) -> dict[LinkKind, float]:
    """Bytes that a request puts on each kind of link: the sum of its hops. Links that it does not touch are left out."""
    total: dict[LinkKind, float] = {}
    for hop in hops:
        if nbytes := hop.nbytes(hit_bytes, new_bytes):
            for link in hop.links:
                total[link] = total.get(link, 0) + nbytes
    return total
