"""How often each side was chosen to read, and why, in a few words that metrics can be labelled with. Pure."""

from collections.abc import Iterable

from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.state import Decision

_WORDS = {
    "no hit": "no_hit",
    "prefill_only": "prefill_only",
    "neither side can read": "neither_can_read",
    "PE cannot read": "pe_cannot_read",
    "DE cannot read": "de_cannot_read",
}
_BEGINNINGS = {"read": "shorter_queue", "equal": "fewer_bytes_read", "turn": "round_robin"}


def reason_word(reason: str) -> str:
    """One of ``observability.metrics.PATH_REASONS`` for a reason in words with numbers; ``other`` for an own policy's."""
    word = _WORDS.get(reason)
    return word or _BEGINNINGS.get(reason.partition(" ")[0], "other")


class DecisionCounts:
    """Counts decisions with their inputs. The words are those of the policies in ``read_side.py``."""

    def __init__(self) -> None:
        self._by_choice: dict[tuple[ReadPath, str], tuple[int, int]] = {}
        self._hit_tokens = self._miss_tokens = 0

    def add(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            assert decision.inputs is not None
            facts = decision.inputs.request_facts
            prompt_tokens, hit_tokens = facts[3], facts[4]
            choice = decision.read_path, reason_word(decision.reason)
            requests, tokens = self._by_choice.get(choice, (0, 0))
            self._by_choice[choice] = requests + 1, tokens + hit_tokens
            self._hit_tokens += hit_tokens
            self._miss_tokens += prompt_tokens - hit_tokens

    def status(self) -> dict[str, object]:
        """``path_counts``: [path, reason, requests, hit tokens] each; and tokens of all prompts, hit and missed."""
        return {
            "path_counts": [[path, reason, *counts] for (path, reason), counts in self._by_choice.items()],
            "hit_tokens": self._hit_tokens,
            "miss_tokens": self._miss_tokens,
        }
