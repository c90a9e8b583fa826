"""What a model costs, from its shape alone: KV bytes, FLOPs, and the GB to load per PFLOP (the paper's Table 1)."""

from dataclasses import dataclass

from pydantic import ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The shape of a model, as far as KV-cache and computation depend on it.

    ``kv_elements_per_token_layer`` counts what is stored: K and V of all KV heads (GQA), or the latent with its RoPE
    part and the indexer's key (MLA). ``kv_layers`` are the layers whose KV grows with the context: sliding-window
    layers hold a bounded amount and are left out. ``kv_element_bytes`` is the size that the source's numbers use; pass
    another to ``kv_bytes_per_token`` for a run of one's own. ``qk_dim`` and ``value_dim`` are what attention multiplies
    per head and cached token; absorbed MLA works in its latent space. ``active_parameters`` are what a token is
    multiplied with: not the input embedding, which is looked up. ``expert_parameters`` are those of one routed expert
    of one layer. The annotations hold for a file of one's own (``models/load.py``).

    Raises: ValueError naming the field when the numbers contradict each other.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    num_layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    kv_elements_per_token_layer: PositiveInt
    kv_element_bytes: PositiveInt
    active_parameters: PositiveInt
    total_parameters: PositiveInt
    weight_bytes_per_parameter: PositiveFloat  # as it lies in HBM: FP8 1, BF16 2
    max_context_tokens: PositiveInt
    kv_layers: PositiveInt
    qk_dim: PositiveInt
    value_dim: PositiveInt
    top_k_tokens: PositiveInt | None = None  # sparse attention: cached tokens that a query attends to
    indexer_heads: NonNegativeInt = 0
    indexer_dim: NonNegativeInt = 0
    moe_layers: NonNegativeInt = 0
    routed_experts: NonNegativeInt = 0
    experts_per_token: NonNegativeInt = 0
    expert_parameters: NonNegativeInt = 0

    def __post_init__(self) -> None:
        moe = (self.moe_layers, self.routed_experts, self.experts_per_token, self.expert_parameters)
        if not 0 < self.kv_layers <= self.num_layers:
            raise ValueError(f"kv_layers: {self.kv_layers} of {self.num_layers} layers")
        if any(moe) and not all(moe):
            raise ValueError("moe_layers, routed_experts, experts_per_token and expert_parameters go together")
        if self.moe_layers > self.num_layers:
            raise ValueError(f"moe_layers: {self.moe_layers} of {self.num_layers} layers")
        if self.experts_per_token > self.routed_experts:
            raise ValueError(f"experts_per_token: {self.experts_per_token} of {self.routed_experts} routed_experts")
        if self.moe_layers * self.experts_per_token * self.expert_parameters > self.active_parameters:
            raise ValueError("active_parameters: fewer than the experts of a token have")
        left_out = self.moe_layers * (self.routed_experts - self.experts_per_token) * self.expert_parameters
        if self.active_parameters + left_out > self.total_parameters:
            raise ValueError("total_parameters: fewer than active_parameters and the other experts together")


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


def weight_bytes(spec: ModelSpec) -> float:
    """Bytes of all weights in HBM."""
    return spec.total_parameters * spec.weight_bytes_per_parameter


def decode_weight_bytes(spec: ModelSpec, batch_tokens: int) -> float:
    """Bytes of weights that a decode step reads for a batch of so many tokens, one of each sequence.

    What every token meets is read once; of the routed experts, those that some token chose. Expected value for tokens
    that choose evenly and independently: an expert stays unread with probability (1 - per token / routed) ^ tokens.
    """
    if batch_tokens <= 0:
        return 0.0
    parameters = float(spec.active_parameters)
    if spec.routed_experts:
        unread = (1 - spec.experts_per_token / spec.routed_experts) ** batch_tokens
        chosen = spec.routed_experts * (1 - unread)
        parameters += spec.moe_layers * (chosen - spec.experts_per_token) * spec.expert_parameters
    return parameters * spec.weight_bytes_per_parameter


def gb_per_pflop(spec: ModelSpec, context_tokens: int, append_tokens: int) -> float:
    """GB (10^9 bytes) of KV to load per PFLOP (10^15) of prefill: the paper's cache-compute ratio (Table 1).

    A prompt of ``context_tokens`` cached tokens is loaded whole, and ``append_tokens`` new ones are computed over it.
    """
    gigabytes = context_tokens * kv_bytes_per_token(spec) / 1e9
    return gigabytes / (append_tokens * flops_per_token(spec, context_tokens) / 1e15)
