"""transformers' cache during one packed forward of a GPU engine: all requests' rows stand in one tensor of HBM."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from transformers.cache_utils import Cache

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.engine.hbm.upload import upload
from dualpath_ray.engine.kv_type import KvType
from dualpath_ray.engine.layer_kv import HbmKv


class HbmCache(Cache):  # type: ignore[misc]  # transformers' cache class is untyped
    """Also what attention asks (``engine/attention.py``)."""

    def __init__(
        self,
        kv: HbmKv,
        spans: Sequence[tuple[int, int]],
        starts: Sequence[int],
        kv_type: KvType,
        latent: bool,
        index_elements: int = 0,
    ) -> None:
        """Args: spans: of each request's new tokens in the packed forward; starts: position of its first new token."""
        super().__init__(layers=[])
        self._kv, self.spans, self._type, self._latent = kv, list(spans), kv_type, latent
        self._index_elements, self._elements = index_elements, torch.empty(0)
        self._new = [stop - start for start, stop in spans]
        self._totals = [start + new for start, new in zip(starts, self._new, strict=True)]
        self.max_new, self.max_keys = max(self._new), at_least(max(self._totals))
        firsts = kv.first_rows
        packed = [0, *accumulate(self._totals)]
        self._num_rows = packed[-1]
        # What attention takes is packed, if it is converted or expanded; else keys and values stay where they stand.
        self._packs = latent or kv_type.converts
        self._firsts = packed[:-1] if self._packs else list(firsts)
        self.ranges = list(zip(self._firsts, self._totals, strict=True))
        gathers = self._packs and packed[:-1] != firsts  # the rows do not lie one behind the other
        rows = zip(firsts, self._totals, self._new, strict=True)
        arrays = [
            torch.cat([torch.arange(first + total - new, first + total) for first, total, new in rows]),
            torch.tensor([0, *(stop for _, stop in spans)], dtype=torch.int32),
            torch.tensor(self._totals, dtype=torch.int32),
            torch.tensor([*self._firsts, 0], dtype=torch.int32),
        ]
        if gathers:
            arrays.append(torch.cat([torch.arange(f, f + t) for f, t in zip(firsts, self._totals, strict=True)]))
        self._new_rows, self.query_starts, self.key_counts, self.key_starts, *all_rows = upload(*arrays)
        self._all_rows = all_rows[0] if gathers else None
        self._keys = self._values = torch.empty(0)

    def decode_from(
        self, new_rows: torch.Tensor, key_counts: torch.Tensor, key_starts: torch.Tensor, max_keys: int
    ) -> None:
        """Look these arrays up instead, which change from step to step. Args: as the attributes of these names."""
        self._new_rows, self.key_counts, self.key_starts, self.max_keys = new_rows, key_counts, key_starts, max_keys

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Store the new tokens' KV. For a latent cache, returns past and new of all requests, packed for expansion."""
        elements = self._kv.begin_layer(layer_idx).view(self._type.memory)
        (heads, dim), (value_heads, value_dim) = key_states.shape[1::2], value_states.shape[1::2]
        width = heads * dim
        stop = width + value_heads * value_dim
        if elements.shape[1] != stop + self._index_elements:
            raise LayoutError(
                f"the model stores {stop + self._index_elements} elements a token, not {elements.shape[1]}"
            )
        new_keys, new_values = (self._type.pack(s[0].transpose(0, 1).flatten(1)) for s in (key_states, value_states))
        elements[:, :width].index_copy_(0, self._new_rows, new_keys)
        elements[:, width:stop].index_copy_(0, self._new_rows, new_values)
        self._elements = elements
        if not self._index_elements:  # else its indexer keys are still to come
            self._kv.end_layer(layer_idx)
        rows = self._packed(elements[:, :stop]) if self._packs else elements
        keys = rows[:, :width].unflatten(1, (heads, dim))
        values = rows[:, width:stop].unflatten(1, (value_heads, value_dim))
        if self._latent:
            return keys.transpose(0, 1)[None], values.transpose(0, 1)[None]
        self._keys, self._values = keys, values
        return key_states, value_states

    def update_indexer(self, indexer_key_states: torch.Tensor, layer_idx: int) -> torch.Tensor:
        """Store the new tokens' indexer keys, [1, tokens, dim]. Returns: past and new of all requests, packed."""
        keys = self._elements[:, -self._index_elements :]
        keys.index_copy_(0, self._new_rows, self._type.pack(indexer_key_states[0]))
        self._kv.end_layer(layer_idx)
        return self._packed(keys)[None]

    def _packed(self, rows: torch.Tensor) -> torch.Tensor:
        """The requests' rows one behind the other, in the type that the model computes in: [all tokens, elements]."""
        found = rows[: self._num_rows] if self._all_rows is None else rows.index_select(0, self._all_rows)
        return self._type.unpack(found)

    def memory(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values) [rows, kv_heads, dim] of the layer that runs now."""
        if self._latent:
            return key[0].transpose(0, 1), value[0].transpose(0, 1)
        return self._keys, self._values

    def attended(self, key: torch.Tensor, value: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per request (keys, values) [kv_heads, tokens, dim]."""
        keys, values = (rows.transpose(0, 1) for rows in self.memory(key, value))
        return [(keys[:, first : first + total], values[:, first : first + total]) for first, total in self.ranges]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0


def at_least(count: int) -> int:
    """The next power of two. Of the longest context: attention splits by it, and sums in another order when it grows."""
    return 1 << (count - 1).bit_length()
