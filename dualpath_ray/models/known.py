"""The models that the paper speaks of, and the small one that runs anywhere, as data.

Sources: the models' published configurations; of DS 27B, appendix A.2. Element sizes of KV are those of the paper's
Table 1: FP8, but FP16 for Qwen2.5-32B; FP32 for smollm2-135m, as this project runs it.
"""

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.parameters import Gqa, Mla, Moe, Stack, count_parameters
from dualpath_ray.models.spec import ModelSpec

STACKS = {
    "smollm2-135m": Stack(576, 30, 49_152, Gqa(9, 3, 64), dense_layers=30, dense_intermediate=1536, tied=True),
    "qwen2.5-32b": Stack(5120, 64, 152_064, Gqa(40, 8, 128), dense_layers=64, dense_intermediate=27_648),
    "qwen3-235b-a22b": Stack(4096, 94, 151_936, Gqa(64, 4, 128), dense_layers=0, moe=Moe(128, 8, 1536)),
    "gpt-oss-120b": Stack(2880, 36, 201_088, Gqa(64, 8, 64), dense_layers=0, moe=Moe(128, 4, 2880)),
    "deepseek-v3": Stack(
        hidden=7168,
        layers=61,
        vocabulary=129_280,
        attention=Mla(128, q_rank=1536),
        dense_layers=3,
        dense_intermediate=18_432,
        moe=Moe(256, 8, 2048, shared=1),
    ),
    "deepseek-v3.2": Stack(
        hidden=7168,
        layers=61,
        vocabulary=129_280,
        attention=Mla(128, q_rank=1536, indexer_heads=64, indexer_dim=128),
        dense_layers=3,
        dense_intermediate=18_432,
        moe=Moe(256, 8, 2048, shared=1),
    ),
    "ds-27b": Stack(  # the paper gives neither latent nor vocabulary: those of DeepSeek-V3.2
        hidden=2560,
        layers=30,
        vocabulary=129_280,
        attention=Mla(32, q_rank=None, indexer_heads=32, indexer_dim=64),
        dense_layers=1,
        dense_intermediate=12_288,
        moe=Moe(72, 6, 1536, shared=2),
    ),
}


def _known(
    name: str,
    kv_element_bytes: int,
    weight_bytes_per_parameter: float,
    max_context_tokens: int,
    kv_layers: int | None = None,
    top_k_tokens: int | None = None,
) -> ModelSpec:
    """What planning needs to know of a shape. ``kv_layers``: layers whose KV grows with the context; unset: all."""
    stack = STACKS[name]
    count, attention, moe = count_parameters(stack), stack.attention, stack.moe
    if isinstance(attention, Mla):  # absorbed: all heads work on the one latent (multi-query attention)
        latent = attention.kv_rank + attention.rope_dim
        kv_heads, head_dim, elements = 1, latent, latent + attention.indexer_dim
        qk_dim, value_dim, indexer = latent, attention.kv_rank, (attention.indexer_heads, attention.indexer_dim)
    else:
        kv_heads, head_dim = attention.kv_heads, attention.head_dim
        elements, qk_dim, value_dim, indexer = 2 * kv_heads * head_dim, head_dim, head_dim, (0, 0)
    return ModelSpec(
        name=name,
        num_layers=stack.layers,
        hidden=stack.hidden,
        heads=attention.heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        kv_elements_per_token_layer=elements,
        kv_element_bytes=kv_element_bytes,
        active_parameters=count.active,
        total_parameters=count.total,
        weight_bytes_per_parameter=weight_bytes_per_parameter,
        max_context_tokens=max_context_tokens,
        kv_layers=stack.layers if kv_layers is None else kv_layers,
        qk_dim=qk_dim,
        value_dim=value_dim,
        top_k_tokens=top_k_tokens,
        indexer_heads=indexer[0],
        indexer_dim=indexer[1],
        moe_layers=stack.moe_layers if moe else 0,
        routed_experts=moe.routed if moe else 0,
        experts_per_token=moe.per_token if moe else 0,
        expert_parameters=count.expert,
    )


_SPECS = (
    _known("smollm2-135m", 4, 4, 8_192),
    _known("qwen2.5-32b", 2, 2, 131_072),
    _known("qwen3-235b-a22b", 1, 1, 131_072),
    # Every other layer attends to a window of 128 tokens. MXFP4 takes 4.25 bits for an expert's weight, the rest is
    # BF16: 65.3 GB in all.
    _known("gpt-oss-120b", 1, 0.56, 131_072, kv_layers=18),
    _known("deepseek-v3", 1, 1, 163_840),
    _known("deepseek-v3.2", 1, 1, 163_840, top_k_tokens=2048),
    _known("ds-27b", 1, 1, 163_840, top_k_tokens=1024),
)
KNOWN = {spec.name: spec for spec in _SPECS}
ALIASES = {"ds-660b": "deepseek-v3.2"}  # the paper's own names


def is_known(name: str) -> bool:
    return name in KNOWN or name in ALIASES


def known_model(name: str) -> ModelSpec:
    """The model of this name. Raises: ConfigError naming those that there are."""
    try:
        return KNOWN[ALIASES.get(name, name)]
    except KeyError:
        raise ConfigError(
            f"model {name}: unknown shape; known are {', '.join(sorted(KNOWN))}, or write the path of a YAML file"
        ) from None
