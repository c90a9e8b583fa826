"""What a model costs, from its shape alone: KV bytes, FLOPs, and the GB to load per PFLOP (the paper's Table 1)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a model, as far as KV-cache and computation depend on it.

    ``kv_elements_per_token_layer`` counts what is stored: K and V of all KV heads (GQA), or the latent with its RoPE
    part and the indexer's key (MLA). ``kv_layers`` are the layers whose KV grows with the context: sliding-window
    layers hold a bounded amount and are left out. ``kv_element_bytes`` is the size that the source's numbers use; pass
    another to ``kv_bytes_per_token`` for a run of one's own. ``qk_dim`` and ``value_dim`` are what attention multiplies
    per head and cached token; absorbed MLA works in its latent space.
    """

    name: str
    num_layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    kv_elements_per_token_layer: int
    kv_element_bytes: int
    active_parameters: int
    max_context_tokens: int
    kv_layers: int
    qk_dim: int
    value_dim: int
    top_k_tokens: int | None = None  # sparse attention: cached tokens that a query attends to
    indexer_heads: int = 0
    indexer_dim: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.kv_layers <= self.num_layers:
            raise ValueError(f"model {self.name}: {self.kv_layers} KV layers of {self.num_layers}")


def kv_bytes_per_token(spec: ModelSpec, element_bytes: int | None = None) -> int:
    """Bytes of KV-cache per token of context, all layers that keep it."""
    size = spec.kv_element_bytes if element_bytes is None else element_bytes
    return spec.kv_layers * spec.kv_elements_per_token_layer * size


def attention_flops_per_token(spec: ModelSpec, context_tokens: float) -> float:
    """FLOPs of attention (and of the sparse indexer) for one new token over ``context_tokens`` cached ones."""
    attended = context_tokens if spec.top_k_tokens is None else min(context_tokens, spec.top_k_tokens)
    attention = spec.kv_layers * spec.heads * 2 * (spec.qk_dim + spec.value_dim) * attended
    # The indexer scores every cached token, which is what keeps sparse attention from being free at long context.
    indexer = spec.kv_layers * spec.indexer_heads * 2 * spec.indexer_dim * context_tokens
    return float(attention + indexer)


def flops_per_token(spec: ModelSpec, context_tokens: float) -> float:
    """FLOPs of one new token over ``context_tokens`` cached ones: 2 for each active parameter, and attention."""
    return 2.0 * spec.active_parameters + attention_flops_per_token(spec, context_tokens)


def gb_per_pflop(spec: ModelSpec, context_tokens: int, append_tokens: int) -> float:
    """GB (10^9 bytes) of KV to load per PFLOP (10^15) of prefill: the paper's cache-compute ratio (Table 1).

    A prompt of ``context_tokens`` cached tokens is loaded whole, and ``append_tokens`` new ones are computed over it.
    """
    gigabytes = context_tokens * kv_bytes_per_token(spec) / 1e9
    return gigabytes / (append_tokens * flops_per_token(spec, context_tokens) / 1e15)
