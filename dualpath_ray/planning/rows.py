"""One number of the paper beside ours."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["calibrated", "predicted", "live"]
TOLERANCE = 0.10  # what a prediction may be off


@dataclass(frozen=True, slots=True)
class Row:
    """``kind``: calibrated to this very number, predicted without having seen it, or measured live."""

    figure: str
    name: str
    paper: float
    ours: float
    kind: Kind
    unit: str = ""

    @property
    def deviation(self) -> float:
        """Ours over the paper's, less one."""
        return self.ours / self.paper - 1

    @property
    def is_off(self) -> bool:
        """A prediction that misses by more than the tolerance."""
        return self.kind == "predicted" and abs(self.deviation) > TOLERANCE

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure,
            "name": self.name,
            "paper": self.paper,
            "ours": self.ours,
            "deviation": self.deviation,
            "kind": self.kind,
            "unit": self.unit,
        }


def verdict(rows: list[Row]) -> str:
    """How many predictions hold, in a sentence."""
    predicted = [row for row in rows if row.kind == "predicted"]
    off = [row for row in predicted if row.is_off]
    if not predicted:
        return "Nothing here is predicted."
    share = len(off) / len(predicted)
    return (
        f"{len(predicted) - len(off)} of {len(predicted)} predicted numbers are within {TOLERANCE:.0%} of the paper's; "
        f"{len(off)} ({share:.0%}) are not."
    )
