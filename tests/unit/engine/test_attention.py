"""Attention of packed requests against plain attention of each by itself."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.engine.attention import packed_causal, sdpa_attention

HEADS, KV_HEADS, DIM = 4, 2, 8
requests = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=4)  # cached, new


class Rows:
    """Each request's keys and values."""

    def __init__(self, spans, keys, values):
        self.spans, self._rows = spans, list(zip(keys, values, strict=True))

    def attended(self, key, value):
        return self._rows


def plain(q, k, v, allowed):
    """[heads, new, dim], by the definition."""
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v))
    scores = (q @ k.transpose(1, 2)) * DIM**-0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v


def setting(requests, seed):
    make = torch.Generator().manual_seed(seed)
    new, totals = [n for _, n in requests], [c + n for c, n in requests]
    query = torch.randn(1, HEADS, sum(new), DIM, generator=make)
    keys, values = ([torch.randn(KV_HEADS, total, DIM, generator=make) for total in totals] for _ in range(2))
    ends = torch.tensor(new).cumsum(0).tolist()
    return query, keys, values, [(end - n, end) for end, n in zip(ends, new, strict=True)], make


@settings(deadline=None)
@given(requests, st.integers(0, 99), st.booleans())
def test_each_request_attends_to_its_own_past_only(requests, seed, indexed):
    query, keys, values, spans, make = setting(requests, seed)
    packed = torch.cat(keys, 1)
    mask = packed_causal([n for _, n in requests], [c + n for c, n in requests], "cpu")
    assert mask.shape == (query.shape[2], packed.shape[1])
    indices = None
    if indexed:  # its own token, and one more of those that it may see
        last = [max(row.nonzero().flatten().tolist()) for row in mask]
        scores = torch.rand(mask.shape, generator=make).masked_fill(~mask, -1)
        indices = torch.stack([torch.tensor(last), scores.argmax(1)], 1)[None].int()
        mask = torch.zeros_like(mask).scatter_(1, indices[0].long(), True)
    out, _ = sdpa_attention(
        torch.nn.Module(), query, packed[None], packed[None], None, DIM**-0.5, 0.0, Rows(spans, keys, values), indices
    )
    first = 0
    for (start, stop), k, v in zip(spans, keys, values, strict=True):
        allowed = mask[start:stop, first : first + k.shape[1]]
        expected = plain(query[0, :, start:stop], k, v, allowed)
        assert torch.allclose(out[0, start:stop].transpose(0, 1), expected, atol=1e-5)
        assert mask[start:stop].sum() == allowed.sum()
        first += k.shape[1]
