"""Byte arithmetic of the read paths."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.traffic.copies import batch_rows, cnic_bytes, cut, join, plan_rows, row_ranges, token_ranges
from dualpath_ray.transport.port import CopyBatch

LAYOUT = KvLayout(num_layers=3, block_tokens=4, bytes_per_token_layer=8)
paths = st.sampled_from(list(ReadPath))


@st.composite
def chunks(draw):
    """(read path, hit tokens, start, stop) as an engine forms them."""
    hit = 4 * draw(st.integers(0, 5))
    start = hit + draw(st.integers(0, 9))
    return draw(paths), hit, start, start + draw(st.integers(1, 20))


@given(st.lists(chunks(), max_size=6))
def test_rows_of_a_batch_are_packed_without_gaps(items):
    row = 0
    plans = plan_rows(items)
    for (path, hit, start, stop), plan in zip(items, plans, strict=True):
        assert plan.first_row == row
        assert plan.local_tokens == (hit if path is ReadPath.PE else 0)
        assert plan.new_row - plan.first_row == start - plan.local_tokens
        assert plan.end_row - plan.new_row == stop - start
        row = plan.end_row
    assert batch_rows(plans) == row


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6, unique=True), st.integers(0, 24), st.integers(0, 24))
def test_ranges_cover_exactly_the_tokens(slots, first, stop):
    """Token t stands in the slot of its block, at its place in layer 0."""
    offsets = np.array(slots, np.int64) * LAYOUT.slot_bytes
    places, nbytes = token_ranges(LAYOUT, offsets, first, stop)
    covered = [place + i for place, n in zip(places, nbytes, strict=True) for i in range(0, n, 8)]
    assert covered == [offsets[t // 4] + LAYOUT.header_bytes + t % 4 * 8 for t in range(first, stop)]
    rows = row_ranges(LAYOUT, 1000, 2, nbytes)
    assert list(rows) == [1000 + 16 + int(nbytes[:i].sum()) for i in range(len(nbytes))]


@given(paths, st.integers(0, 5), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_cnic_bytes_of_a_prompt(path, hit_blocks, lengths):
    hit = hit_blocks * LAYOUT.block_tokens
    stops = [hit + int(n) for n in np.cumsum(lengths)]
    bytes_in, bytes_out = cnic_bytes(LAYOUT, path, hit, stops)
    new, token = stops[-1] - hit, LAYOUT.token_bytes
    again = sum(stop - hit for stop in stops[:-1]) * token  # what chunking costs, on both paths
    if path is ReadPath.PE:
        assert (bytes_in, bytes_out) == (again, (hit + new) * token)
    else:
        assert (bytes_in, bytes_out) == (again + len(stops) * hit * token, new * token)


def test_join_of_nothing_is_empty():
    assert join([]).total_bytes == 0
    one = CopyBatch(*(np.array([i], np.int64) for i in (1, 2, 3)))
    assert join([one, join([]), one]).nbytes.tolist() == [3, 3]


ranges = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 40)), max_size=12)


def bytes_of(batch: CopyBatch) -> list[tuple[int, int]]:
    """(local, remote) of every byte, in order."""
    spans = zip(batch.local, batch.remote, batch.nbytes, strict=True)
    return [(int(here) + i, int(there) + i) for here, there, n in spans for i in range(n)]


@given(ranges, st.integers(1, 100))
def test_parts_are_the_whole_and_none_is_above_the_limit(triples, limit):
    batch = CopyBatch(*(np.array([t[i] for t in triples], np.int64) for i in range(3)))
    parts = cut(batch, limit)
    assert [byte for part in parts for byte in bytes_of(part)] == bytes_of(batch)
    sizes = [part.total_bytes for part in parts]
    assert all(size == limit for size in sizes[:-1]) and sizes[-1] <= limit
    assert all(array.dtype == np.int64 for part in parts for array in (part.local, part.remote, part.nbytes))
    if batch.total_bytes > limit:
        assert all(part.nbytes.min() > 0 for part in parts)
    else:
        assert parts == [batch]
