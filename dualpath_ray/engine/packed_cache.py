"""transformers' cache during one packed forward of a CPU engine: each request's rows stand alone."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.engine.kv_type import KvType
from dualpath_ray.engine.layer_kv import LayerKv


class PackedCache(Cache):  # type: ignore[misc]  # transformers' cache class is untyped
    """What transformers takes for its cache during one packed forward."""

    def __init__(
        self, kv: LayerKv, spans: Sequence[tuple[int, int]], kv_type: KvType, latent: bool, index_elements: int = 0
    ) -> None:
        super().__init__(layers=[])
        self._kv, self.spans, self._type, self._latent = kv, list(spans), kv_type, latent
        self._index_elements = index_elements
        self._rows: list[torch.Tensor] = []
        self.keys: list[torch.Tensor] = []  # per request [kv_heads, tokens, dim]
        self.values: list[torch.Tensor] = []
        self._layer = -1

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Store the new tokens' KV. For a latent cache, returns past and new of all requests, packed for expansion."""
        self.keys, self.values = [], []  # the layer before is used: its rows may go
        self._rows = []
        self._rows = self._kv.begin_layer(layer_idx)
        key_width = key_states.shape[1] * key_states.shape[3]
        value_width = value_states.shape[1] * value_states.shape[3]
        for row, (start, stop) in zip(self._rows, self.spans, strict=True):
            elements = row.view(self._type.memory)
            stored = key_width + value_width + self._index_elements
            if elements.shape[1] != stored:
                raise LayoutError(f"the model stores {stored} elements a token, not {elements.shape[1]}")
            keys = elements[:, :key_width].unflatten(1, key_states.shape[1::2])
            values = elements[:, key_width : key_width + value_width].unflatten(1, value_states.shape[1::2])
            count = stop - start
            keys[-count:] = self._type.pack(key_states[0, :, start:stop].transpose(0, 1))
            values[-count:] = self._type.pack(value_states[0, :, start:stop].transpose(0, 1))
            self.keys.append(self._type.unpack(keys).transpose(0, 1))
            self.values.append(self._type.unpack(values).transpose(0, 1))
        if not self._index_elements:  # else its indexer keys are still to come
            self._kv.end_layer(layer_idx)
        if self._latent:
            return torch.cat(self.keys, 1)[None], torch.cat(self.values, 1)[None]
        return key_states, value_states

    def update_indexer(self, indexer_key_states: torch.Tensor, layer_idx: int) -> torch.Tensor:
        """Store the new tokens' indexer keys, [1, tokens, dim]. Returns: past and new of all requests, packed."""
        keys = []
        for row, (start, stop) in zip(self._rows, self.spans, strict=True):
            mine = row.view(self._type.memory)[:, -self._index_elements :]
            mine[start - stop :] = self._type.pack(indexer_key_states[0, start:stop])
            keys.append(self._type.unpack(mine))
        self._kv.end_layer(layer_idx)
        return torch.cat(keys)[None]

    def attended(self, key: torch.Tensor, value: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per request (keys, values) [heads, tokens, dim] of the layer that runs now."""
        if not self._latent:
            return list(zip(self.keys, self.values, strict=True))
        lengths = [k.shape[1] for k in self.keys]
        return list(zip(key[0].split(lengths, 1), value[0].split(lengths, 1), strict=True))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return query_length, 0
