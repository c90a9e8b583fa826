"""How the global queue was shared out among the decode groups, kept so that each choice can be looked at again."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class SharingHistory:
    """Total tok_e of every decode group at a moment, and in order what each change since made of it."""

    totals: dict[str, int]
    changes: list[tuple[int, str]] = field(default_factory=list)  # the total from then on, of which group

    def __reduce__(self) -> tuple[Any, ...]:
        """See LoadHistory.__reduce__."""
        return SharingHistory, (self.totals, list(self.changes))


@dataclass(slots=True, eq=False)  # not frozen: one is made for every request, and frozen ones take three times as long
class SharedOut:
    """One choice of a decode group: what stood in a history after so many changes."""

    history: SharingHistory
    num_changes: int

    def totals(self) -> dict[str, int]:
        """Total tok_e of every decode group when the choice was made."""
        changes = self.history.changes[: self.num_changes]
        return {**self.history.totals, **{group_id: total for total, group_id in changes}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedOut) and self.totals() == other.totals()
