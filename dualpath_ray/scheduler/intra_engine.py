"""How a prefill engine forms its next forward batch: the compute quota (section 6, within a PE). Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class BatchPredictor(Protocol):
    """Predicted seconds that a request adds to one layer's attention of its batch."""

    def predict_s(self, cached_tokens: int, bsz: int) -> float: ...


@dataclass(frozen=True, slots=True)
class AttentionPredictor:
    """Predicted time of one layer's attention; ``overhead_s`` and ``s_per_flop`` are fitted to the engine at hand."""

    num_heads: int
    head_dim: int
    s_per_flop: float
    overhead_s: float = 0.0  # of each request in a batch

    def flops(self, cached_tokens: int, bsz: int) -> int:
        """FLOPs of one layer's causal attention of ``bsz`` new tokens behind ``cached_tokens``: Q K^T and P V."""
        return 4 * self.num_heads * self.head_dim * (bsz * cached_tokens + bsz * (bsz + 1) // 2)

    def predict_s(self, cached_tokens: int, bsz: int) -> float:
        """Seconds that a request adds to one layer's attention of its batch."""
        return self.overhead_s + self.flops(cached_tokens, bsz) * self.s_per_flop


@dataclass(frozen=True, slots=True)
class Chunk:
    """A request in a PE's queue: what stands computed or loaded, and what is left to prefill."""

    request_id: str
    cached_tokens: int
    remaining_tokens: int


@dataclass(frozen=True, slots=True)
class Take:
    """How many new tokens of a request enter the batch."""

    request_id: str
    bsz: int


def pack_batch(
    queue: Iterable[Chunk],
    predictor: BatchPredictor,
    quota_s: float | None,
    max_batch_tokens: int,
    max_rows: int,
    min_chunk_tokens: int,
) -> list[Take]:
    """Pack FIFO until a limit is reached; the request that would pass it is cut by binary search and is the last.

    Args:
        quota_s: limit of the batch's predicted attention time in one layer (300 ms in the paper); None for no quota.
        max_batch_tokens: limit of its new tokens.
        max_rows: limit of its cached and new tokens together; the head of the queue is exempt, it fits alone.
        min_chunk_tokens: no request is cut to less; the head gets that much (or all it has) whatever the limits, so
            that every batch makes progress.
    """
    batch: list[Take] = []
    used_s, used_tokens, used_rows = 0.0, 0, 0
    for chunk in queue:
        least = min(max(min_chunk_tokens, 1), chunk.remaining_tokens)
        most = min(chunk.remaining_tokens, max_batch_tokens - used_tokens)
        if batch:
            most = min(most, max_rows - used_rows - chunk.cached_tokens)
        if quota_s is not None:
            most = _largest_within(predictor, chunk.cached_tokens, most, quota_s - used_s)
        if most < least:
            if batch:
                break
            most = least
        batch.append(Take(chunk.request_id, most))
        if most < chunk.remaining_tokens:
            break
        used_s += predictor.predict_s(chunk.cached_tokens, most)
        used_tokens += most
        used_rows += chunk.cached_tokens + most
    return batch


def _largest_within(predictor: BatchPredictor, cached_tokens: int, most: int, budget_s: float) -> int:
    """The largest bsz in [0, most] whose predicted time is at most ``budget_s``; 0 when there is none."""
    low, high = 0, max(most, 0)
    if high and predictor.predict_s(cached_tokens, high) <= budget_s:  # nearly always
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if predictor.predict_s(cached_tokens, middle) <= budget_s:
            low = middle
        else:
            high = middle - 1
    return low
