"""What ``dualpath fabric --verify`` found of one item."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    SAME = "same"
    DIFFERS = "differs"
    NOTE = "note"  # could not be compared


@dataclass(frozen=True, slots=True)
class Finding:
    """``says`` is what was found and what is configured; ``remedy`` what to do where it differs."""

    name: str
    says: str
    verdict: Verdict
    remedy: str = ""


def lines(findings: Sequence[Finding]) -> list[str]:
    """One a finding, and one that sums them up."""
    width = max((len(finding.name) for finding in findings), default=0)
    verdict_width = max(len(verdict) for verdict in Verdict)
    rows = [
        f"{each.verdict:<{verdict_width}}  {each.name:<{width}}  {each.says}{f'; {each.remedy}' if each.remedy else ''}"
        for each in findings
    ]
    return [*rows, summary(findings)]


def summary(findings: Sequence[Finding]) -> str:
    same, differs = (sum(each.verdict is verdict for each in findings) for verdict in (Verdict.SAME, Verdict.DIFFERS))
    if not same + differs:
        return "Nothing could be compared here."
    return f"{differs or 'None'} of {same + differs} items compared {'differs' if differs < 2 else 'differ'}."


def differs(findings: Sequence[Finding]) -> bool:
    return any(each.verdict is Verdict.DIFFERS for each in findings)
