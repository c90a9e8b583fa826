"""Reasons become a few words, whatever numbers stand in them."""

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.metrics import PATH_CHOICES
from dualpath_ray.scheduler.decision_counts import reason_word
from dualpath_ray.scheduler.read_side import load_policy
from tests.unit.scheduler.test_read_side import any_inputs


@given(inputs=any_inputs, name=st.sampled_from(["prefill_only", "round_robin", "scheduled"]))
def test_our_policies_reasons_are_known_and_possible_for_their_side(inputs, name):
    path, reason = load_policy(name)(inputs)
    word = reason_word(reason)
    assert word != "other" and (path, word) in PATH_CHOICES
    assert (word == "no_hit") == (inputs.request.hit_tokens == 0)


@given(st.text())
def test_any_other_reason_is_other(text):
    assert reason_word("mine: " + text) == "other"
