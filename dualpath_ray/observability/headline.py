"""A comparison in one sentence, and whether the tokens were the same in another."""

from typing import Any

from dualpath_ray.observability.format import amount, count, times
from dualpath_ray.observability.mode_words import shape
from dualpath_ray.observability.run_record import Comparison


def headline(comparison: Comparison, summary: dict[str, Any]) -> str:
    """What came out, speedup first; tokens that differ are never left out."""
    speedup = summary["speedup"] or summary["speedup_over_basic"]
    against = "the single path" if summary["speedup"] else "the single path without layerwise prefill"
    if speedup is None:
        runs = comparison.runs
        said = f"{amount(len(runs), 'run')} on {shape(runs[0])}" if runs else "No runs"
    elif speedup >= 1.05:
        said = f"Dual path finished {times(speedup)} as fast as {against}"
    elif speedup > 0.95:
        said = f"Dual path took as long as {against} ({times(speedup)})"
    else:
        said = f"Dual path was slower than {against} ({times(speedup)})"
    if summary["tokens_identical"] is None:
        return f"{said}."
    return f"{said}, with the same tokens." if summary["tokens_identical"] else f"{said}, but the tokens differ."


def token_sentence(summary: dict[str, Any]) -> str:
    """How many tokens were compared with the plain model's, and what came out."""
    if summary["tokens_identical"] is None:
        return "The tokens were not checked in this comparison."
    compared = amount(summary["num_tokens_compared"], "generated token")
    ties, wrong = summary["num_near_ties"], summary["num_wrong_tokens"]
    said = f"{compared} compared with one plain forward of the model over each final context: "
    said += (f"{count(wrong)} wrong, " if wrong else "all the model’s own, ") + f"{amount(ties, 'near tie')}."
    changed = summary["num_tokens_changed_by_rounding"]
    return said if changed is None else f"{said} Rounding the stored KV changed {count(changed)} of them."


def alarms(summary: dict[str, Any]) -> list[str]:
    """What a reader must know before the numbers, one sentence each."""
    alarms = []
    if summary["tokens_identical"] is False:
        wrong = summary["num_wrong_tokens"]
        alarms.append(
            f"{amount(wrong, 'generated token')} differ from the model’s own."
            if wrong
            else "Near ties are more than 0.5 % of the tokens compared."
        )
    if not summary["hit_tokens_equal"]:
        alarms.append("The runs did not hit the same number of tokens, so their times are not of the same work.")
    for run in summary["runs"]:
        if run["load_failures"]:
            lost = f"{count(run['recomputed_tokens'])} tokens were computed again"
            alarms.append(
                f"{run['mode']}: {amount(run['load_failures'], 'block read')} failed or did not verify; {lost}."
            )
    return alarms
