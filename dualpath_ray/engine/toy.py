"""Models with random weights: small ones for tests, and the shapes of large ones for benchmarks on a GPU.

``toy-llama``, ``toy-qwen2``, ``toy-qwen3``, ``toy-deepseek-v3`` and ``toy-deepseek-v3.2``, with ``-32l`` for 32 layers;
``random-qwen2.5-7b`` and ``random-deepseek-v3-4l`` (four of its layers, the last one with experts).
"""

import re
from types import SimpleNamespace
from typing import Any

from dualpath_ray.base.errors import ConfigError

_NAME = re.compile(r"^toy-(llama|qwen2|qwen3|deepseek-v3(?:\.2)?)(?:-(\d+)l)?$")
VOCAB_SIZE = 512

_CLASSES = {  # of transformers, by model type
    "llama": "LlamaConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "deepseek_v3": "DeepseekV3Config",
    "deepseek_v32": "DeepseekV32Config",
}

# As published in the models' own configuration files; only DeepSeek-V3's number of layers is another.
_LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "random-qwen2.5-7b": (
        "qwen2",
        {
            "eos_token_id": None,
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
        "deepseek_v3",
        {
            "eos_token_id": 1,
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


def toy_shape(model: str) -> SimpleNamespace:
    """What a configuration of transformers says of a model with random weights, without the seconds of importing it.

    Raises: ConfigError listing the names.
    """
    match = _NAME.match(model)
    if match:
        kind, values = _toy(match.group(1), int(match.group(2) or 4))
    elif model in _LARGE:
        kind, values = _LARGE[model]
    else:
        raise ConfigError(
            f"model: there is no {model!r}; models with random weights are toy-llama, toy-qwen2, toy-qwen3, "
            f"toy-deepseek-v3, toy-deepseek-v3.2, {', '.join(_LARGE)}"
        )
    return SimpleNamespace(architectures=[_CLASSES[kind]], model_type=kind, **values)


def toy_config(model: str) -> Any:
    """Configuration of a model with random weights. Raises: ConfigError listing the names."""
    shape = vars(toy_shape(model))
    import transformers

    values = {name: value for name, value in shape.items() if name not in ("architectures", "model_type")}
    return getattr(transformers, shape["architectures"][0])(**values)


def _toy(kind: str, layers: int) -> tuple[str, dict[str, Any]]:
    """(model type, configuration values) of a small model."""
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
    if kind in ("llama", "qwen2"):
        return kind, {**common, "num_key_value_heads": 2}
    if kind == "qwen3":
        return kind, {**common, "num_key_value_heads": 2, "head_dim": 16}
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
        return "deepseek_v3", latent
    # Each token attends to all before it: random scores tie at zero, and picks among ties depend on a batch's shape.
    topk = common["max_position_embeddings"]
    return "deepseek_v32", {**latent, "index_topk": topk, "index_n_heads": 2, "index_head_dim": 32}
