"""The model adapter: one packed forward over ragged requests, with their KV in our layout.

Two hooks of transformers: ``Cache.update`` sees what a model stores (so that MLA stores its latent), and the attention
registry takes ragged requests without padding. A layer's KV of one request is uint8 [tokens, bytes_per_token_layer]:
for each token the elements that ``update`` got as keys, then those it got as values. Only this module knows that.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as functional
import transformers
from transformers.cache_utils import Cache
from transformers.masking_utils import AttentionMaskInterface

from dualpath_ray.base.errors import ConfigError, LayoutError
from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.toy import is_toy, toy_config

_ATTENTION = "dualpath"
TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class LayerKv(Protocol):
    """Where a forward finds cached KV and leaves new KV; asked in layer order, from the compute thread."""

    def begin_layer(self, layer: int) -> list[torch.Tensor]:
        """Per request uint8 [cached + new tokens, bytes_per_token_layer], the cached rows filled in. May wait."""
        ...

    def end_layer(self, layer: int) -> None:
        """The new rows of this layer are filled in too."""
        ...


class PackedCache(Cache):  # type: ignore[misc]  # transformers' cache class is untyped
    """What transformers takes for its cache during one packed forward."""

    def __init__(self, kv: LayerKv, spans: Sequence[tuple[int, int]], dtype: torch.dtype, latent: bool) -> None:
        super().__init__(layers=[])
        self._kv, self.spans, self._dtype, self._latent = kv, list(spans), dtype, latent
        self.keys: list[torch.Tensor] = []  # per request [kv_heads, tokens, dim]: views of the layer's rows
        self.values: list[torch.Tensor] = []
        self._layer = -1

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Store the new tokens' KV. For a latent cache, returns past and new of all requests, packed for expansion."""
        self.keys, self.values = [], []  # the layer before is used: its rows may go
        rows = self._kv.begin_layer(layer_idx)
        key_width = key_states.shape[1] * key_states.shape[3]
        value_width = value_states.shape[1] * value_states.shape[3]
        for row, (start, stop) in zip(rows, self.spans, strict=True):
            elements = row.view(self._dtype)
            if elements.shape[1] != key_width + value_width:
                raise LayoutError(
                    f"the model stores {key_width + value_width} elements a token, not {elements.shape[1]}"
                )
            keys = elements[:, :key_width].unflatten(1, key_states.shape[1::2])
            values = elements[:, key_width:].unflatten(1, value_states.shape[1::2])
            count = stop - start
            keys[-count:] = key_states[0, :, start:stop].transpose(0, 1)
            values[-count:] = value_states[0, :, start:stop].transpose(0, 1)
            self.keys.append(keys.transpose(0, 1))
            self.values.append(values.transpose(0, 1))
        self._kv.end_layer(layer_idx)
        if self._latent:
            return torch.cat(self.keys, 1)[None], torch.cat(self.values, 1)[None]
        return key_states, value_states

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


def _packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    dualpath_cache: PackedCache | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each request over its own past. query [1, heads, packed tokens, dim]."""
    assert dualpath_cache is not None
    out = []
    for (start, stop), (k, v) in zip(dualpath_cache.spans, dualpath_cache.attended(key, value), strict=True):
        q = query[:, :, start:stop]
        new, total = stop - start, k.shape[1]
        mask = None if new == 1 else torch.ones(new, total, dtype=torch.bool, device=q.device).tril(total - new)
        out.append(
            functional.scaled_dot_product_attention(q, k[None], v[None], attn_mask=mask, scale=scaling, enable_gqa=True)
        )
    return torch.cat(out, 2).transpose(1, 2), None


class ModelAdapter:
    """A model on one device."""

    def __init__(self, description: ModelDescription, dtype: str, seed: int) -> None:
        """Raises: ConfigError naming the key ``model`` when the weights cannot be loaded."""
        self.description = description
        self.dtype = TORCH_DTYPES[dtype]
        transformers.AttentionInterface.register(_ATTENTION, _packed_attention)
        AttentionMaskInterface.register(_ATTENTION, lambda *args, **kwargs: None)
        self._model = load_model(description.model, self.dtype, seed)
        self._model.set_attn_implementation(_ATTENTION)

    @torch.inference_mode()
    def forward(
        self, token_ids: Sequence[Sequence[int]], starts: Sequence[int], kv: LayerKv, logits_of: Sequence[int]
    ) -> torch.Tensor:
        """One packed forward.

        Args:    token_ids: the new tokens of each request; starts: position of its first new token; logits_of: indices of
            the requests whose last token's logits are wanted.
        Returns: float32 [len(logits_of), vocab_size].
        """
        lengths = [len(t) for t in token_ids]
        ends = torch.tensor(lengths).cumsum(0).tolist()
        spans = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        cache = PackedCache(kv, spans, self.dtype, self.description.latent)
        positions = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
        last = torch.tensor([ends[i] - 1 for i in logits_of], dtype=torch.long)
        out = self._model(
            input_ids=torch.tensor([t for tokens in token_ids for t in tokens])[None],
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last if len(last) else 1,
            dualpath_cache=cache,
        )
        logits: torch.Tensor = out.logits[0].float()
        return logits if len(last) else logits[:0]


def load_model(model: str, dtype: torch.dtype, seed: int, attention: str = "sdpa") -> Any:
    """A transformers model in evaluation mode; toy models get random weights from ``seed``.

    Raises: ConfigError naming the key ``model``.
    """
    if is_toy(model):
        torch.manual_seed(seed)
        built = transformers.AutoModelForCausalLM.from_config(toy_config(model), attn_implementation=attention)
        return built.to(dtype).eval()
    transformers.utils.logging.disable_progress_bar()  # it would write over the display of a run
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            model if not Path(model).is_dir() else Path(model), dtype=dtype, attn_implementation=attention
        ).eval()
    except (
        Exception
    ) as error:  # transformers has no error tree of its own: whatever fails here is a model that won't load
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {model} cannot be loaded ({reason})") from error
