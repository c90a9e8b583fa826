"""Which side read, and why, counted over a run. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dualpath_ray.base.types import ReadPath
from dualpath_ray.observability.run_record import TurnRecord
from dualpath_ray.observability.turn_columns import column, text_column

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
    paths, texts = text_column(turns, "read_path"), text_column(turns, "reason")
    hits = [turn for turn, tokens in enumerate(column(turns, "hit_tokens").tolist()) if tokens > 0]
    num_de = sum(paths[turn] == ReadPath.DE for turn in hits)
    reasons = Counter((paths[turn], _NUMBER.sub("n", texts[turn])) for turn in hits if texts[turn])
    top = tuple((side, reason, times) for (side, reason), times in reasons.most_common(most_reasons))
    return PathChoices(len(hits) - num_de, num_de, len(turns) - len(hits), top)
