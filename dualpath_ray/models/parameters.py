"""How many parameters a transformer has, and how many of them a token meets, from its shape.

Matrices only: norms and biases are below a thousandth of any model here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gqa:
    """Grouped-query attention: K and V of ``kv_heads`` heads are cached."""

    heads: int
    kv_heads: int
    head_dim: int

    def parameters(self, hidden: int) -> int:
        query_and_output = 2 * hidden * self.heads * self.head_dim
        key_and_value = 2 * hidden * self.kv_heads * self.head_dim
        return query_and_output + key_and_value


@dataclass(frozen=True, slots=True)
class Mla:
    """Multi-head latent attention: one latent and one RoPE key a token are cached; with an indexer, its key too."""

    heads: int
    q_rank: int | None  # None: the query comes from the hidden state at once (no Q LoRA)
    kv_rank: int = 512
    rope_dim: int = 64
    nope_dim: int = 128
    value_dim: int = 128
    indexer_heads: int = 0
    indexer_dim: int = 0

    def parameters(self, hidden: int) -> int:
        q_in = self.q_rank or hidden
        q_down = hidden * self.q_rank if self.q_rank else 0
        q_up = q_in * self.heads * (self.nope_dim + self.rope_dim)
        kv_down = hidden * (self.kv_rank + self.rope_dim)
        kv_up = self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
        output = self.heads * self.value_dim * hidden
        # The indexer: its queries, its one key, and a weight per head.
        indexer = q_in * self.indexer_heads * self.indexer_dim + hidden * (self.indexer_dim + self.indexer_heads)
        return q_down + q_up + kv_down + kv_up + output + indexer


@dataclass(frozen=True, slots=True)
class Moe:
    """Feed-forward experts of a layer; the shared ones see every token."""

    routed: int
    per_token: int
    intermediate: int
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """The shape of a whole model. Its first ``dense_layers`` have one feed-forward block, the others ``moe``."""

    hidden: int
    layers: int
    vocabulary: int
    attention: Gqa | Mla
    dense_layers: int
    dense_intermediate: int = 0
    moe: Moe | None = None
    tied: bool = False  # one matrix is both input embedding and output head

    @property
    def moe_layers(self) -> int:
        return self.layers - self.dense_layers


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """``active``: what a token is multiplied with; its row of the input embedding is looked up, which costs no FLOP."""

    total: int
    active: int
    expert: int  # one routed expert of one layer; 0 without experts


def gated_ffn_parameters(hidden: int, intermediate: int) -> int:
    """Gate, up and down projection."""
    return 3 * hidden * intermediate


def count_parameters(stack: Stack) -> ParameterCount:
    """Parameters of a model."""
    embedding = stack.vocabulary * stack.hidden
    attention = stack.layers * stack.attention.parameters(stack.hidden)
    dense = stack.dense_layers * gated_ffn_parameters(stack.hidden, stack.dense_intermediate)
    every_token = attention + dense + embedding  # the output head multiplies
    rest = expert = routed = 0
    if stack.moe:
        expert = gated_ffn_parameters(stack.hidden, stack.moe.intermediate)
        router = stack.hidden * stack.moe.routed
        every_token += stack.moe_layers * (stack.moe.shared * expert + router)
        routed = stack.moe_layers * stack.moe.per_token * expert
        rest = stack.moe_layers * (stack.moe.routed - stack.moe.per_token) * expert
    active = every_token + routed
    return ParameterCount(active + rest + (0 if stack.tied else embedding), active, expert)
