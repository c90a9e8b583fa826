"""Which split is simulated next and which one wins: nobody who could win is left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.planning.candidate import DUAL, SINGLE
from dualpath_ray.planning.choice import (
    NOISE_RATIO,
    WORTH_A_RUN,
    Row,
    best_single,
    gain,
    next_compared,
    next_split,
    winner,
)
from dualpath_ray.planning.objective import Outcome
from dualpath_ray.planning.split import all_splits

scores = st.floats(0.0, 100.0)


@st.composite
def searches(draw):
    """(bound, true score) of every split; no score is above its bound."""
    splits = all_splits(draw(st.integers(2, 12)))
    bounds = {split: draw(scores) for split in splits}
    return bounds, {split: bound * draw(st.floats(0, 1)) for split, bound in bounds.items()}


def outcome(value):
    return Outcome(value, 1, 1.0, 0.01, {"PE SNIC": 0.5})


@settings(deadline=None)
@given(searches())
def test_the_search_ends_with_the_best_and_simulates_each_once(search):
    bounds, truth = search
    found = {}
    while (split := next_split(bounds, found)) is not None:
        assert split not in found and bounds[split] > 0
        found[split] = truth[split]
    best = max(truth.values())
    assert max(found.values(), default=0.0) == best
    for split in truth.keys() - found.keys():
        assert bounds[split] <= WORTH_A_RUN * best


@settings(deadline=None)
@given(searches())
def test_the_best_of_the_single_path_is_found_where_it_is_no_better_than_the_dual_path(search):
    dual, single = search
    found = {}
    while (split := next_compared(dual, found)) is not None:
        assert split not in found
        found[split] = single[split]
    worth = {split: score for split, score in single.items() if dual[split] > 0}
    assert max(found.values(), default=0.0) == max(worth.values(), default=0.0)


@settings(deadline=None)
@given(searches(), st.integers(0, 20))
def test_the_winner_is_the_best_but_for_noise_and_ones_own(search, own_index):
    _, found = search
    own = list(found)[own_index % len(found)]
    best = max(found.values())
    won = winner(found, own)
    if won is None:
        assert best == 0
    elif won == own:
        assert found[own] * (1 + NOISE_RATIO) >= best * (1 - 1e-9)
    else:
        assert found[won] == best and found[own] * (1 + NOISE_RATIO) < best * (1 + 1e-9)


def test_ones_own_split_does_not_win_when_only_another_does_what_is_asked_for():
    own, other = all_splits(3)
    found = {own: 2.0, other: 2.08}
    assert winner(found, own) == winner(found, own, 1.9) == own
    assert winner(found, own, 2.05) == other
    assert winner(found, own, 2.5) == own, "neither does"


@pytest.mark.parametrize(("more_is_better", "expected"), [(True, 2.0), (False, 0.5)])
def test_gain_is_how_many_times_better(more_is_better, expected):
    row = Row(all_splits(2)[0], outcomes={DUAL: outcome(0.6), SINGLE: outcome(0.3)})
    assert gain(row, SINGLE, more_is_better) == pytest.approx(expected)
    assert gain(Row(row.split, outcomes={DUAL: outcome(1.0)}), SINGLE, more_is_better) is None


def test_the_single_path_may_do_best_elsewhere():
    rows = [Row(s, outcomes={SINGLE: outcome(v)}) for s, v in zip(all_splits(4), (1.0, 3.0, 2.0), strict=True)]
    assert best_single(rows, True) is rows[1] and best_single(rows, False) is rows[0]
    assert best_single([Row(all_splits(2)[0])], True) is None
