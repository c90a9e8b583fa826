"""Which side read, and why, counted over a run. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dualpath_ray.base.types import ReadPath
from dualpath_ray.observability.run_record import TurnRecord

_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class PathChoices:
    """Turns with a hit, by the side that read it, and the commonest reasons with their numbers left out."""

    num_pe: int
    num_de: int
    num_without_hit: int
    reasons: tuple[tuple[str, str, int], ...]  # (side, reason, turns), commonest first

    @property
    def de_ratio(self) -> float | None:
        """Share of hits that the decode side read; None without hits."""
        total = self.num_pe + self.num_de
        return self.num_de / total if total else None


def count_choices(turns: Sequence[TurnRecord], most_reasons: int = 4) -> PathChoices:
    """Count the decisions of a run; reasons that differ only in numbers are one."""
    hits = [turn for turn in turns if turn.hit_tokens > 0]
    num_de = sum(turn.read_path == ReadPath.DE for turn in hits)
    reasons = Counter((turn.read_path, _NUMBER.sub("n", turn.reason)) for turn in hits)
    top = tuple((side, reason, times) for (side, reason), times in reasons.most_common(most_reasons))
    return PathChoices(len(hits) - num_de, num_de, len(turns) - len(hits), top)
