"""Models with random weights: small ones for tests, and the shapes of large ones for benchmarks on a GPU.

``toy-llama``, ``toy-qwen2``, ``toy-qwen3``, ``toy-deepseek-v3`` and ``toy-deepseek-v3.2``, with ``-32l`` for 32 layers;
``random-qwen2.5-7b`` and ``random-deepseek-v3-4l`` (four of its layers, the last one with experts).
"""

import re
from typing import Any

from dualpath_ray.base.errors import ConfigError

_NAME = re.compile(r"^toy-(llama|qwen2|qwen3|deepseek-v3(?:\.2)?)(?:-(\d+)l)?$")
VOCAB_SIZE = 512

# As published in the models' own configuration files; only DeepSeek-V3's number of layers is another.
_LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "random-qwen2.5-7b": (
        "Qwen2Config",
        {
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 131072,
            "tie_word_embeddings": False,
        },
    ),
    "random-deepseek-v3-4l": (
        "DeepseekV3Config",
        {
            "vocab_size": 129280,
            "hidden_size": 7168,
            "intermediate_size": 18432,
            "moe_intermediate_size": 2048,
            "num_hidden_layers": 4,
            "first_k_dense_replace": 3,
            "num_attention_heads": 128,
            "num_key_value_heads": 128,
            "n_shared_experts": 1,
            "n_routed_experts": 256,
            "num_experts_per_tok": 8,
            "n_group": 8,
            "topk_group": 4,
            "q_lora_rank": 1536,
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "max_position_embeddings": 163840,
            "tie_word_embeddings": False,
        },
    ),
}


def is_toy(model: str) -> bool:
    """Whether a model's weights are random."""
    return model.startswith("toy-") or is_large_shape(model)


def is_large_shape(model: str) -> bool:
    """Whether it is the shape of a large model: made where it runs, since that takes a GPU a second and a CPU minutes."""
    return model.startswith("random-")


def toy_config(model: str) -> Any:
    """Configuration of a model with random weights. Raises: ConfigError listing the names."""
    match = _NAME.match(model)
    if not match and model not in _LARGE:
        raise ConfigError(
            f"model: there is no {model!r}; models with random weights are toy-llama, toy-qwen2, toy-qwen3, "
            f"toy-deepseek-v3, toy-deepseek-v3.2, {', '.join(_LARGE)}"
        )
    import transformers

    if not match:
        kind, values = _LARGE[model]
        return getattr(transformers, kind)(**values)
    kind, layers = match.group(1), int(match.group(2) or 4)
    common = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 4096,
        "eos_token_id": 1,
        "bos_token_id": 0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    if kind == "llama":
        return transformers.LlamaConfig(**common, num_key_value_heads=2)
    if kind == "qwen2":
        return transformers.Qwen2Config(**common, num_key_value_heads=2)
    if kind == "qwen3":
        return transformers.Qwen3Config(**common, num_key_value_heads=2, head_dim=16)
    latent = {
        **common,
        "num_key_value_heads": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "moe_intermediate_size": 64,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    }
    if kind == "deepseek-v3":
        return transformers.DeepseekV3Config(**latent)
    # Each token attends to all before it: random scores tie at zero, and picks among ties depend on a batch's shape.
    topk = common["max_position_embeddings"]
    return transformers.DeepseekV32Config(**latent, index_topk=topk, index_n_heads=2, index_head_dim=32)
