"""What the page remembers."""

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.ui.history import KEPT_DECISIONS, KEPT_S, History


@given(st.lists(st.tuples(st.floats(0, 400), st.sampled_from(["prefill_only", "scheduled"])), max_size=40))
def test_only_two_minutes_stay_and_every_change_in_them_is_a_flip(steps):
    history, at_s = History(), 0.0
    expected, before = [], None
    for passed_s, path in steps:
        at_s += passed_s
        history.add(at_s, {"p0": 0.5}, path)
        if before not in (None, path):
            expected.append((at_s, path))
        before = path
    assert [at for at, _ in history.points()] == sorted(at for at, _ in history.points())
    assert all(at >= at_s - KEPT_S for at, _ in history.points())
    assert history.flips() == [flip for flip in expected if flip[0] >= at_s - KEPT_S]


@given(st.lists(st.integers(1, 50), max_size=60))
def test_a_decision_stands_once_and_in_order(seqs):
    history = History()
    for seq in seqs:
        history.add_decisions([{"seq": seq}])
    kept = [row["seq"] for row in history.decisions(0)]
    assert kept == sorted(set(kept)) and history.last_seq == max([0, *seqs])


def test_decisions_after_a_number_and_no_more_than_are_kept():
    history = History()
    history.add_decisions({"seq": seq} for seq in range(1, KEPT_DECISIONS + 100))
    assert len(history.decisions(0)) == KEPT_DECISIONS
    assert [row["seq"] for row in history.decisions(KEPT_DECISIONS + 90)] == list(
        range(KEPT_DECISIONS + 91, KEPT_DECISIONS + 100)
    )
    assert history.decisions(history.last_seq) == []
    assert [row["seq"] for row in history.decisions(0, 2)] == [KEPT_DECISIONS + 98, KEPT_DECISIONS + 99]
