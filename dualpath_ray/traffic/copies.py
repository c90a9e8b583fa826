"""Which bytes each step of a read path moves (section 4.1). Pure arithmetic shared by traffic manager and engine.

A forward batch has one staging region per layer in flight. Its rows (one token's KV of one layer each) are, item by item:
the cached tokens that come over the CNIC, then the new tokens that the engine computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualpath_ray.base.types import ReadPath
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.transport.port import CopyBatch


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """Rows of one item of a batch, in tokens.

    ``local_tokens`` [0, n) are read from PE slots by the engine; [local_tokens, start) come over the CNIC into region
    rows [first_row, new_row); [start, stop) are computed and leave from rows [new_row, end_row).
    """

    start: int
    stop: int
    local_tokens: int
    first_row: int

    @property
    def new_row(self) -> int:
        return self.first_row + self.start - self.local_tokens

    @property
    def end_row(self) -> int:
        return self.new_row + self.stop - self.start


def plan_rows(chunks: Sequence[tuple[ReadPath, int, int, int]]) -> list[ChunkPlan]:
    """Row layout of a batch.

    Args: chunks: (read path, verified hit tokens, start, stop) of each item. On the PE path the hit is in PE slots and
        only earlier chunks' KV comes back from the DE buffer; on the DE path everything cached comes from there.
    """
    plans: list[ChunkPlan] = []
    row = 0
    for path, hit_tokens, start, stop in chunks:
        plan = ChunkPlan(start, stop, hit_tokens if path is ReadPath.PE else 0, row)
        plans.append(plan)
        row = plan.end_row
    return plans


def batch_rows(plans: Sequence[ChunkPlan]) -> int:
    """Rows that a region must hold for this batch."""
    return plans[-1].end_row if plans else 0


def token_ranges(layout: KvLayout, slot_offsets: np.ndarray, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Where tokens [first, stop) of layer 0 stand in a list of slots.

    Args:    slot_offsets: int64 [num_blocks], offset of each block's slot in its segment.
    Returns: (offset, nbytes), int64 [ranges], one range per touched block; for layer l add ``l * layer_block_bytes``.
    """
    if first >= stop:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    size = layout.block_tokens
    blocks = np.arange(first // size, -(-stop // size))
    begin = np.maximum(blocks * size, first)
    end = np.minimum((blocks + 1) * size, stop)
    offsets = slot_offsets[blocks] + layout.header_bytes + (begin - blocks * size) * layout.bytes_per_token_layer
    return offsets.astype(np.int64), ((end - begin) * layout.bytes_per_token_layer).astype(np.int64)


def row_ranges(layout: KvLayout, region_offset: int, first_row: int, nbytes: np.ndarray) -> np.ndarray:
    """Offsets of consecutive ranges of ``nbytes`` each, from ``first_row`` of a region on."""
    start = region_offset + first_row * layout.bytes_per_token_layer
    ends = np.cumsum(nbytes)
    return (start + ends - nbytes).astype(np.int64)


def join(parts: Sequence[CopyBatch]) -> CopyBatch:
    """One batch out of several."""
    return CopyBatch(
        np.concatenate([p.local for p in parts]) if parts else np.empty(0, np.int64),
        np.concatenate([p.remote for p in parts]) if parts else np.empty(0, np.int64),
        np.concatenate([p.nbytes for p in parts]) if parts else np.empty(0, np.int64),
    )


def cut(batch: CopyBatch, limit_bytes: int) -> list[CopyBatch]:
    """The same copy in parts of ``limit_bytes``, the last of what is left; a range may be cut anywhere."""
    ends = np.cumsum(batch.nbytes)
    total = int(ends[-1]) if len(ends) else 0
    if total <= limit_bytes:
        return [batch]
    starts = np.unique(np.concatenate((ends - batch.nbytes, np.arange(0, total, limit_bytes))))
    starts = starts[starts < total]  # where an empty range stood at the end
    ranges = np.searchsorted(ends, starts, side="right")
    into = starts - (ends - batch.nbytes)[ranges]
    whole = CopyBatch(batch.local[ranges] + into, batch.remote[ranges] + into, np.diff(starts, append=total))
    parts = np.searchsorted(starts, np.arange(limit_bytes, total, limit_bytes))
    split = (np.split(values, parts) for values in (whole.local, whole.remote, whole.nbytes))
    return [CopyBatch(*arrays) for arrays in zip(*split, strict=True)]


def cnic_bytes(layout: KvLayout, path: ReadPath, hit_tokens: int, chunk_stops: Sequence[int]) -> tuple[int, int]:
    """Bytes of one request over the prefill node's CNIC: (in, out), by the formulas of the read paths.

    PE path: out = hit + new. DE path: in = hit once per chunk, out = new. On both, a later chunk brings the earlier
    chunks' new KV back in. ``chunk_stops``: end of each chunk in tokens, the last is the prompt's length.
    """
    tokens_in = tokens_out = 0
    start = hit_tokens
    for stop in chunk_stops:
        tokens_in += start - (hit_tokens if path is ReadPath.PE else 0)
        tokens_out += stop - start
        start = stop
    if path is ReadPath.PE:
        tokens_out += hit_tokens
    return tokens_in * layout.token_bytes, tokens_out * layout.token_bytes
