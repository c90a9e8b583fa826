"""How the global queue was shared out among the decode groups, kept so that each choice can be looked at again."""

from dataclasses import dataclass, field

BATCH = 256  # choices that share one copy of the groups' totals


@dataclass(slots=True)
class SharingBatch:
    """Total tok_e of every decode group at a moment, and who got how many tokens from then on, in order."""

    totals: dict[str, int]
    given: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class SharedOut:
    """One choice of a decode group: the ``index``-th of a batch."""

    batch: SharingBatch
    index: int

    def totals(self) -> dict[str, int]:
        """Total tok_e of every decode group when the choice was made."""
        totals = dict(self.batch.totals)
        for group_id, tokens in self.batch.given[: self.index]:
            totals[group_id] += tokens
        return totals

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedOut) and self.totals() == other.totals()
