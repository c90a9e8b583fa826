"""Union of spans: what holds for all of them."""

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.observability.spans import union_s

moments = st.integers(0, 60)
spans = st.lists(st.tuples(moments, moments).map(lambda p: (min(p), max(p))))


@given(spans)
def test_union_counts_every_covered_second_once(spans):
    covered = {second for start, stop in spans for second in range(start, stop)}
    assert union_s(spans) == len(covered)


@given(spans, st.randoms())
def test_order_does_not_matter(spans, random):
    mixed = list(spans)
    random.shuffle(mixed)
    assert union_s(mixed) == union_s(spans)


def test_no_span_covers_nothing():
    assert union_s([]) == 0.0
