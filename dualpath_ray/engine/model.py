"""The model adapter: one packed forward over ragged requests, with their KV in our layout.

Two hooks of transformers: ``Cache.update`` sees what a model stores (so that MLA stores its latent), and the attention
registry takes ragged requests without padding. A layer's KV of one request is uint8 [tokens, bytes_per_token_layer]:
for each token the elements that ``update`` got as keys, then those it got as values, then an indexer's key. Only the two
caches know that (``packed_cache.py``, ``hbm/cache.py``).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from transformers.masking_utils import AttentionMaskInterface

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.engine.attention import Output, choose_attention, packed_causal, sdpa_attention, varlen_attention
from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.kv_type import TORCH_DTYPES, KvType
from dualpath_ray.engine.layer_kv import HbmKv, LayerKv
from dualpath_ray.engine.packed_cache import PackedCache
from dualpath_ray.engine.profile import EngineProfile, profile_engine
from dualpath_ray.engine.toy import is_large_shape, is_toy, toy_config

if TYPE_CHECKING:
    from dualpath_ray.engine.hbm.graphs import DecodeGraphs
    from dualpath_ray.engine.hbm.sequences import HbmStepKv


class ModelAdapter:
    """A model on one device."""

    def __init__(
        self,
        description: ModelDescription,
        dtype: str,
        seed: int,
        device: str = "cpu",
        kv_dtype: str | None = None,
        prefills: bool = True,
    ) -> None:
        """Args: device: cpu or cuda; kv_dtype: in which KV is stored, if not in ``dtype``; prefills: not only decodes.

        Raises: ConfigError naming the key ``model`` when the weights cannot be loaded.
        """
        self.description = description
        self.dtype, self.device = TORCH_DTYPES[dtype], device
        self.kv_type = KvType(TORCH_DTYPES[kv_dtype or dtype], self.dtype)
        self._model = load_model(description.model, self.dtype, seed, device)
        self._attention = self._choose_attention(prefills)
        name = f"dualpath-{id(self._attention):x}"  # the registry is the process'; an attention may be one model's
        transformers.AttentionInterface.register(name, self._attention)
        AttentionMaskInterface.register(name, lambda *args, **kwargs: None)
        self._model.set_attn_implementation(name)
        self._graphs = self._make_graphs()

    @torch.inference_mode()
    def forward(
        self, token_ids: Sequence[Sequence[int]], starts: Sequence[int], kv: LayerKv | HbmKv, logits_of: Sequence[int]
    ) -> torch.Tensor:
        """One packed forward.

        Args:    token_ids: the new tokens of each request; starts: position of its first new token; logits_of: indices of
            the requests whose last token's logits are wanted; kv: HbmKv on a GPU, else LayerKv.
        Returns: float32 [len(logits_of), vocab_size], in DRAM.
        """
        lengths = [len(t) for t in token_ids]
        ends = torch.tensor(lengths).cumsum(0).tolist()
        spans = [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
        cache = self._cache(kv, spans, starts)
        ids, positions, last = self._on_device(
            torch.tensor([t for tokens in token_ids for t in tokens]),
            torch.cat([torch.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)]),
            torch.tensor([ends[i] - 1 for i in logits_of], dtype=torch.long),
        )
        masks = {}
        if self.description.index_elements:  # the indexer scores packed rows, and must not pick another request's
            totals = [start + length for start, length in zip(starts, lengths, strict=True)]
            mask = packed_causal(lengths, totals, self.device)[None, None]
            masks = {"attention_mask": {"indexed_attention": mask}}
        logits = self._run(ids, positions, last if len(last) else 1, cache, masks).cpu()
        return logits if len(last) else logits[:0]

    def _run(
        self, ids: torch.Tensor, positions: torch.Tensor, last: torch.Tensor | int, cache: Any, masks: dict[str, Any]
    ) -> torch.Tensor:
        """float32 [len(last), vocab_size], on the device."""
        out = self._model(
            **masks,
            input_ids=ids[None],
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
            dualpath_cache=cache,
        )
        logits: torch.Tensor = out.logits[0].float()
        return logits

    @torch.inference_mode()
    def decode(self, token_ids: Sequence[int], starts: Sequence[int], kv: LayerKv | HbmKv) -> torch.Tensor:
        """One token of each sequence, as ``forward``; on a GPU by a recorded graph, if the model can be recorded.

        Args:    token_ids, starts: the token of each sequence and its position; kv: of the engine's memory.
        Returns: float32 [sequences, vocab_size], in DRAM.
        """
        if self._graphs is not None:
            from dualpath_ray.engine.hbm.graphs import NotRecordableError

            try:
                return self._graphs.step(token_ids, starts, cast("HbmStepKv", kv))
            except NotRecordableError:
                self._graphs = None  # its steps are launched from here on
        return self.forward([[token] for token in token_ids], starts, kv, range(len(token_ids)))

    def after_layer(self, act: Callable[[int], None]) -> None:
        """As of ``Adapter``. On a GPU it waits for each layer, and decode steps are launched: a recorded one calls nobody."""
        self._graphs = None

        def computed(layer: torch.nn.Module, args: tuple[torch.Tensor, ...], output: object) -> None:
            if self.device != "cpu":
                torch.cuda.current_stream().synchronize()
            act(args[0].shape[1])  # hidden states: [1, new tokens, width]

        for layer in self._model.get_decoder().layers:
            layer.register_forward_hook(computed)

    def _choose_attention(self, prefills: bool) -> Callable[..., Output]:
        described = self.description
        found = choose_attention(self.device, self.dtype, described.index_elements > 0)
        if found is sdpa_attention or self.dtype is not torch.bfloat16 or not prefills:
            return found
        from dualpath_ray.engine.planned_attention import faster_than_torch

        heads, dim = described.num_heads, described.head_dim
        kv_heads = heads if described.latent else described.kv_elements_per_token_layer // (2 * dim)
        value_dim = self._model.config.v_head_dim if described.latent else dim
        return faster_than_torch(heads, kv_heads, dim, value_dim, described.latent) or found

    @property
    def attention(self) -> str:
        """Whose kernels attend in a prefill, for people."""
        if self._attention is sdpa_attention:
            return "torch SDPA"
        return "torch flash" if self._attention is varlen_attention else "FlashInfer"

    def profile(self, max_context_tokens: int, repeats: int) -> EngineProfile:
        """Measured now; the first forwards warm up."""
        return profile_engine(self, max_context_tokens, repeats)

    @property
    def read_bytes(self) -> int:
        """Of weights that every step reads: all but those of experts, and of input embeddings that stand alone."""
        embeddings = self._model.get_input_embeddings().weight
        tied = embeddings is self._model.get_output_embeddings().weight
        parameters = {name: p for name, p in self._model.named_parameters() if ".experts." not in name}
        return sum(p.nbytes for p in parameters.values()) - (0 if tied else embeddings.nbytes)

    @property
    def records_decode(self) -> bool:
        """Whether decode steps are recorded graphs here."""
        return self._graphs is not None

    def _make_graphs(self) -> "DecodeGraphs | None":
        """None where nothing can be recorded: shapes that depend on the contexts' lengths, or on which experts are chosen."""
        packs = self.description.latent or self.kv_type.converts
        experts = any("experts" in name for name, _ in self._model.named_modules())
        if packs or experts or self._attention is sdpa_attention:
            return None
        from dualpath_ray.engine.hbm.graphs import DecodeGraphs

        return DecodeGraphs(self._run, self._cache)

    def _on_device(self, *tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        if self.device == "cpu":
            return tensors
        from dualpath_ray.engine.hbm.upload import upload

        return upload(*tensors)

    def _cache(self, kv: LayerKv | HbmKv, spans: list[tuple[int, int]], starts: Sequence[int]) -> Any:
        described = self.description
        if self.device == "cpu":
            return PackedCache(cast(LayerKv, kv), spans, self.kv_type, described.latent, described.index_elements)
        from dualpath_ray.engine.hbm.cache import HbmCache

        return HbmCache(cast(HbmKv, kv), spans, starts, self.kv_type, described.latent, described.index_elements)


def load_model(model: str, dtype: torch.dtype, seed: int, device: str = "cpu") -> Any:
    """A transformers model in evaluation mode; toy models get random weights from ``seed``, the same on every device.

    The shapes of large models are made on the device, so their weights depend on it.

    Raises: ConfigError naming the key ``model``.
    """
    if is_toy(model):
        torch.manual_seed(seed)
        with torch.device(device if is_large_shape(model) else "cpu"):
            built = transformers.AutoModelForCausalLM.from_config(
                toy_config(model), attn_implementation="sdpa", dtype=dtype if is_large_shape(model) else None
            )
        return built.to(device, dtype).eval()
    transformers.utils.logging.disable_progress_bar()  # it would write over the display of a run
    try:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            model if not Path(model).is_dir() else Path(model), dtype=dtype, attn_implementation="sdpa"
        )
        return loaded.to(device).eval()
    except (
        Exception
    ) as error:  # transformers has no error tree of its own: whatever fails here is a model that won't load
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"model: {model} cannot be loaded ({reason})") from error
