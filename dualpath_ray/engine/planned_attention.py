"""FlashInfer's kernels for prefill, where the package is: on Hopper about twice as fast as the one that torch brings.

They are planned once a forward and run in every layer. Decode steps keep torch's kernel: it is as fast there, and a graph
can record it. What FlashInfer compiles for a model's shape takes a minute or two the first time on a machine, and is kept.
"""

import logging
import statistics
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dualpath_ray.engine.attention import Output, Packed, varlen_attention
from dualpath_ray.engine.hbm.probe import device_s

_log = logging.getLogger(__name__)
_WORKSPACE_BYTES = 128 << 20
_WIDTHS = ((64, 64), (128, 128), (256, 256), (192, 128))  # of keys and values; others fail when they have been compiled
_FASTER = 0.95  # of the time of torch's kernel: less is not worth a second library
_NEW, _TOTAL, _REQUESTS = 512, 8192, 2  # of the trial: a turn's new tokens over a long context
_MOST_BYTES = 256 << 20  # of its keys and values
_NEAR = 0.02  # what another order of sums makes of bfloat16
_REPEATS = 5


class PlannedAttention:
    """Like ``varlen_attention``. Of one model: all of its layers have one shape."""

    def __init__(self, latent: bool) -> None:
        """Args: latent: keys and values come expanded, one request's rows behind the other's.

        Raises: ImportError without FlashInfer.
        """
        from flashinfer import BatchPrefillWithPagedKVCacheWrapper, BatchPrefillWithRaggedKVCacheWrapper

        self._latent, self._works = latent, True
        kind = BatchPrefillWithRaggedKVCacheWrapper if latent else BatchPrefillWithPagedKVCacheWrapper
        self._wrapper: Any = kind(torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device="cuda"), "NHD")
        self._planned: Callable[[], Packed | None] = lambda: None

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        dualpath_cache: Packed | None = None,
        **rest: Any,
    ) -> Output:
        cache = dualpath_cache
        assert cache is not None
        if cache.max_new == 1 or not self._works:
            return varlen_attention(module, query, key, value, attention_mask, scaling, dropout, cache, **rest)
        keys, values = cache.memory(key, value)
        queries = query[0].transpose(0, 1)
        if self._planned() is not cache:
            try:
                self._plan(cache, queries, keys, values, scaling)
            except (RuntimeError, ValueError) as error:  # it has no room for this batch, say
                _log.warning("FlashInfer cannot plan a batch, so torch's kernel serves from here on: %s", error)
                self._works = False
                return varlen_attention(module, query, key, value, attention_mask, scaling, dropout, cache, **rest)
            self._planned = weakref.ref(cache)
        if self._latent:
            return self._wrapper.run(queries, keys, values)[None], None
        return self._wrapper.run(queries, (keys[:, None], values[:, None]))[None], None

    def _plan(
        self, cache: Packed, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
    ) -> None:
        query_starts = torch.tensor([0, *(stop for _, stop in cache.spans)], dtype=torch.int32)
        totals = torch.tensor([0, *(total for _, total in cache.ranges)], dtype=torch.int32)
        key_starts = totals.cumsum(0, dtype=torch.int32)
        heads, kv_heads, dim = queries.shape[1], keys.shape[1], keys.shape[2]
        how = {"causal": True, "sm_scale": scaling, "q_data_type": queries.dtype, "kv_data_type": keys.dtype}
        if self._latent:
            width = values.shape[2]
            self._wrapper.plan(query_starts, key_starts, heads, kv_heads, dim, head_dim_vo=width, **how)
            return
        rows = torch.cat(
            [torch.arange(first, first + n, dtype=torch.int32, device=keys.device) for first, n in cache.ranges]
        )
        one = torch.ones(len(cache.ranges), dtype=torch.int32)  # a page is a token: ranges begin at any row
        self._wrapper.plan(query_starts, key_starts, rows, one, heads, kv_heads, dim, 1, **how)


def faster_than_torch(
    heads: int, kv_heads: int, head_dim: int, value_dim: int, latent: bool
) -> PlannedAttention | None:
    """FlashInfer's attention where it is here, and serves this shape alike and faster than torch's: measured. bfloat16."""
    if (head_dim, value_dim) not in _WIDTHS:
        return None
    try:
        planned = PlannedAttention(latent)
    except ImportError:
        return None
    try:
        trial = _Trial.of(heads, kv_heads, head_dim, value_dim)
        calls = [partial(attention, **trial.arguments()) for attention in (planned, varlen_attention)]
        torch.testing.assert_close(calls[0]()[0], calls[1]()[0], atol=_NEAR, rtol=_NEAR)
        ours, theirs = (statistics.median(device_s(call) for _ in range(_REPEATS)) for call in calls)
    except Exception as error:  # no compiler, another version's interface, other values
        _log.warning("FlashInfer is here, but torch's kernel is used: %s", " ".join(str(error).split())[:300])
        return None
    finally:
        torch.cuda.empty_cache()
    return planned if ours < _FASTER * theirs else None


@dataclass(frozen=True, eq=False)
class _Trial(Packed):
    """Requests of one shape, their keys and values one behind the other."""

    queries: torch.Tensor  # [1, heads, tokens, dim]
    keys: torch.Tensor
    values: torch.Tensor
    spans: list[tuple[int, int]]
    ranges: list[tuple[int, int]]
    query_starts: torch.Tensor
    key_starts: torch.Tensor
    key_counts: torch.Tensor
    max_keys: int
    max_new: int = _NEW

    @classmethod
    def of(cls, heads: int, kv_heads: int, head_dim: int, value_dim: int) -> "_Trial":
        like: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
        index: dict[str, Any] = {"dtype": torch.int32, "device": "cuda"}
        width = kv_heads * (head_dim + value_dim)
        total = max(_NEW, min(_TOTAL, _MOST_BYTES // (2 * width * _REQUESTS)))
        rows = torch.randn(_REQUESTS * total, width, **like)
        numbers = range(_REQUESTS)
        return cls(
            queries=torch.randn(1, heads, _REQUESTS * _NEW, head_dim, **like),
            keys=rows[:, : kv_heads * head_dim].unflatten(1, (kv_heads, head_dim)),
            values=rows[:, kv_heads * head_dim :].unflatten(1, (kv_heads, value_dim)),
            spans=[(n * _NEW, (n + 1) * _NEW) for n in numbers],
            ranges=[(n * total, total) for n in numbers],
            query_starts=torch.arange(_REQUESTS + 1, **index) * _NEW,
            key_starts=torch.arange(_REQUESTS + 1, **index) * total,
            key_counts=torch.full((_REQUESTS,), total, **index),
            max_keys=total,
        )

    def arguments(self) -> dict[str, Any]:
        same = {"module": None, "attention_mask": None, "scaling": self.keys.shape[2] ** -0.5}
        return {**same, "query": self.queries, "key": self.keys, "value": self.values, "dualpath_cache": self}

    def memory(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return key, value
