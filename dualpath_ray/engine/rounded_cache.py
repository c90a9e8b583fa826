"""transformers' own cache, but that it keeps KV as a store of another type would: what a rounded run is compared with."""

from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from dualpath_ray.engine.kv_type import KvType


class RoundedCache(DynamicCache):  # type: ignore[misc]  # transformers' cache class is untyped
    """Nothing of ours but the rounding of each value."""

    def __init__(self, kv_type: KvType, config: Any) -> None:
        super().__init__(config=config)
        self._type = kv_type

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().update(self._type.rounded(key_states), self._type.rounded(value_states), *args, **kwargs)

    def update_indexer(self, indexer_key_states: torch.Tensor, layer_idx: int) -> Any:
        return super().update_indexer(self._type.rounded(indexer_key_states), layer_idx)
