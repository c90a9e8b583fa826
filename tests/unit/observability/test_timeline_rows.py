from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.timeline_rows import MOST_ROWS, TimelineRows

spans = st.tuples(st.integers(0, 100), st.integers(0, 30)).map(lambda drawn: (drawn[0], sum(drawn)))


@given(st.lists(spans, max_size=60))
def test_nothing_overlaps_in_a_row_but_the_last_and_no_more_rows_are_used_than_are_busy_at_once(drawn):
    rows, told = TimelineRows(), sorted(drawn, key=lambda span: span[1])
    placed = [(rows.row("p0/snic/in", start, stop), start, stop) for start, stop in told]
    for number in range(MOST_ROWS - 1):
        inside = [(start, stop) for row, start, stop in placed if row == number]
        assert all(before[1] <= after[0] for before, after in zip(inside, inside[1:], strict=False))
    assert len({row for row, *_ in placed}) <= MOST_ROWS
    for row, start, _ in placed:
        if row:  # all rows before it were busy then, with what had begun earlier or ended later
            busy = {other for other, _, stop in placed if stop > start}
            assert set(range(row)) <= busy


def test_places_have_rows_of_their_own():
    rows = TimelineRows()
    assert [rows.row(place, 0.0, 1.0) for place in ("p0/snic/in", "p0/snic/out", "p0/snic/in")] == [0, 0, 1]
