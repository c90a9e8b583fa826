"""What one check of ``dualpath doctor`` found."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # runs, but slower or with less than it could
    ERROR = "error"  # does not run


@dataclass(frozen=True, slots=True)
class Check:
    """``says`` is what was found; ``remedy`` what to do about it, where something is wrong."""

    name: str
    says: str
    level: Level = Level.OK
    remedy: str = ""


def lines(checks: Sequence[Check]) -> list[str]:
    """One a check."""
    width = max((len(check.name) for check in checks), default=0)
    level_width = max(len(level) for level in Level)
    return [
        f"{check.level:<{level_width}}  {check.name:<{width}}  {check.says}{f'; {check.remedy}' if check.remedy else ''}"
        for check in checks
    ]


def has_error(checks: Sequence[Check]) -> bool:
    return any(check.level is Level.ERROR for check in checks)
