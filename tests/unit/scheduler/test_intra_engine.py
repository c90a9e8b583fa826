from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.scheduler.intra_engine import AttentionPredictor, Chunk, Take, pack_batch

predictors = st.builds(
    AttentionPredictor, st.integers(1, 8), st.integers(1, 64), st.floats(1e-9, 1e-6), st.floats(0, 1e-3)
)
queues = st.lists(
    st.builds(Chunk, st.uuids().map(str), st.integers(0, 5000), st.integers(1, 3000)),
    max_size=12,
    unique_by=lambda chunk: chunk.request_id,
)
quotas = st.none() | st.floats(0, 0.5)


def time_s(predictor, queue, batch):
    return sum(predictor.predict_s(chunk.cached_tokens, take.bsz) for chunk, take in zip(queue, batch, strict=False))


@given(
    queue=queues,
    predictor=predictors,
    quota_s=quotas,
    max_batch_tokens=st.integers(1, 4000),
    max_rows=st.integers(1, 8000),
    min_chunk_tokens=st.integers(1, 128),
)
def test_packing(queue, predictor, quota_s, max_batch_tokens, max_rows, min_chunk_tokens):
    batch = pack_batch(queue, predictor, quota_s, max_batch_tokens, max_rows, min_chunk_tokens)

    # FIFO, and only the last is cut.
    assert [take.request_id for take in batch] == [chunk.request_id for chunk in queue[: len(batch)]]
    assert all(take.bsz == chunk.remaining_tokens for take, chunk in zip(batch[:-1], queue, strict=False))

    # Progress, and no crumbs.
    assert bool(batch) == bool(queue)
    for take, chunk in zip(batch, queue, strict=False):
        assert min(min_chunk_tokens, chunk.remaining_tokens) <= take.bsz <= chunk.remaining_tokens

    # Within the limits, but for what the head is guaranteed.
    def allowed(part):
        is_guaranteed = len(part) == 1 and part[0].bsz <= min(min_chunk_tokens, queue[0].remaining_tokens)
        rows = sum(chunk.cached_tokens + take.bsz for take, chunk in zip(part, queue, strict=False))
        return is_guaranteed or (
            (quota_s is None or time_s(predictor, queue, part) <= quota_s + 1e-12)
            and sum(take.bsz for take in part) <= max_batch_tokens
            and (len(part) == 1 or rows <= max_rows)
        )

    assert not batch or allowed(batch)

    # Maximal: neither one more token of the last nor the least piece of the next would have been allowed.
    if batch and batch[-1].bsz < queue[len(batch) - 1].remaining_tokens:
        longer = [*batch[:-1], Take(batch[-1].request_id, batch[-1].bsz + 1)]
        assert quota_s is not None and abs(time_s(predictor, queue, longer) - quota_s) < 1e-9 or not allowed(longer)
    elif len(batch) < len(queue):
        following = queue[len(batch)]
        least = min(min_chunk_tokens, following.remaining_tokens)
        longer = [*batch, Take(following.request_id, least)]
        assert quota_s is not None and abs(time_s(predictor, queue, longer) - quota_s) < 1e-9 or not allowed(longer)


@given(predictor=predictors, cached=st.integers(0, 5000), first=st.integers(1, 500), second=st.integers(1, 500))
def test_two_chunks_cost_the_flops_of_one(predictor, cached, first, second):
    whole = predictor.flops(cached, first + second)
    assert whole == predictor.flops(cached, first) + predictor.flops(cached + first, second)


def test_flops_are_those_of_causal_attention():
    predictor = AttentionPredictor(num_heads=2, head_dim=8, s_per_flop=1e-9)
    pairs = sum(10 + position for position in range(1, 6))  # the first of 5 new tokens sees 10 cached and itself
    assert predictor.flops(10, 5) == 4 * 2 * 8 * pairs


def test_without_a_quota_all_that_fits_is_taken():
    queue = [Chunk("a", 100, 50), Chunk("b", 0, 500), Chunk("c", 0, 1)]
    predictor = AttentionPredictor(1, 1, 1.0)
    assert pack_batch(queue, predictor, None, 10_000, 10_000, 16) == [Take("a", 50), Take("b", 500), Take("c", 1)]
    assert pack_batch(queue, predictor, None, 200, 10_000, 16) == [Take("a", 50), Take("b", 150)]
    assert pack_batch(queue, predictor, None, 10_000, 10, 16) == [Take("a", 50)]
