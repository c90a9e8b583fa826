"""Causal attention of packed, ragged requests, each over its own past: registered with transformers under a name.

``query`` is [1, heads, packed tokens, dim]; where keys and values stand, the cache of the forward knows.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as functional

Output = tuple[torch.Tensor, None]


class Attended(Protocol):
    """What attention asks of a cache. ``key`` and ``value`` are what ``Cache.update`` returned, perhaps expanded."""

    spans: list[tuple[int, int]]  # of each request's new tokens: (first, stop) in the packed forward

    def attended(self, key: torch.Tensor, value: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per request (keys, values) [kv_heads, tokens, dim] of the layer that runs now."""
        ...


class Packed(Protocol):
    """Keys and values of all requests in one memory: one kernel serves them all. Index tensors are int32, on the device."""

    spans: list[tuple[int, int]]  # as of ``Attended``
    query_starts: torch.Tensor  # [requests + 1]
    key_starts: torch.Tensor  # [requests + 1], in any order; the last one is not looked at
    key_counts: torch.Tensor  # [requests]
    max_new: int
    max_keys: int
    ranges: list[tuple[int, int]]  # of each request: (first row, tokens), the same on the host

    def memory(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) [rows, kv_heads, dim]."""
        ...


def sdpa_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    dualpath_cache: Attended | None = None,
    indices: torch.Tensor | None = None,
    **_: Any,
) -> Output:
    """A call for each request: any device, any dtype.

    Args: indices: of a model with an indexer, [1, tokens, topk]: the packed rows that each token attends to.
    """
    assert dualpath_cache is not None
    out, first = [], 0
    for (start, stop), (k, v) in zip(dualpath_cache.spans, dualpath_cache.attended(key, value), strict=True):
        q = query[:, :, start:stop]
        new, total = stop - start, k.shape[1]
        mask = None if new == 1 else causal(new, total, q.device)
        if indices is not None:
            chosen = torch.zeros(new, key.shape[2], dtype=torch.bool, device=q.device)
            chosen = chosen.scatter_(1, indices[0, start:stop].long(), True)[:, first : first + total]
            mask = chosen if mask is None else mask & chosen
        first += total
        out.append(
            functional.scaled_dot_product_attention(q, k[None], v[None], attn_mask=mask, scale=scaling, enable_gqa=True)
        )
    return torch.cat(out, 2).transpose(1, 2), None


def causal(new: int, total: int, device: torch.device) -> torch.Tensor:
    """Which of ``total`` tokens each of the last ``new`` ones attends to, bool [new, total]."""
    return torch.ones(new, total, dtype=torch.bool, device=device).tril(total - new)


def packed_causal(new: Sequence[int], totals: Sequence[int], device: torch.device | str) -> torch.Tensor:
    """The same for requests one behind the other, none of which sees another: bool [sum of new, sum of totals]."""
    blocks = [causal(n, total, torch.device(device)) for n, total in zip(new, totals, strict=True)]
    return torch.block_diag(*(block.to(torch.uint8) for block in blocks)).bool()


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    dualpath_cache: Packed | None = None,
    **_: Any,
) -> Output:
    """One call for all requests, over their rows where they stand: CUDA, 16-bit types."""
    cache = dualpath_cache
    assert cache is not None
    keys, values = cache.memory(key, value)
    width = values.shape[2]
    if width < keys.shape[2]:  # latent attention: the kernel wants one width
        values = functional.pad(values, (0, keys.shape[2] - width))
    # One query a request sees all keys; said so, the kernel lets the heads that share keys and values read them once.
    masked = cache.max_new > 1
    # torch.nn.attention.varlen.varlen_attn is this call; its torch 2.11 does not take the number of keys yet.
    out = torch.ops.aten._flash_attention_forward(
        query[0].transpose(0, 1),
        keys,
        values,
        cache.query_starts,
        cache.key_starts,
        cache.max_new,
        cache.max_keys,
        0.0,
        masked,
        False,
        scale=scaling,
        window_size_left=-1,
        window_size_right=0 if masked else -1,
        seqused_k=cache.key_counts,
    )[0]
    return out[None, ..., :width], None


def choose_attention(device: str, dtype: torch.dtype, indexed: bool) -> Callable[..., Output]:
    """What serves a device and a dtype here without further packages. Args: indexed: by an indexer."""
    if device == "cuda" and dtype in (torch.bfloat16, torch.float16) and not indexed:
        return varlen_attention
    return sdpa_attention
