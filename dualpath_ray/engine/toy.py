"""Small random models for tests: ``toy-llama``, ``toy-qwen2``, ``toy-qwen3``, ``toy-deepseek-v3``, with ``-32l`` for 32 layers."""

import re
from typing import Any

from dualpath_ray.base.errors import ConfigError

_NAME = re.compile(r"^toy-(llama|qwen2|qwen3|deepseek-v3)(?:-(\d+)l)?$")
VOCAB_SIZE = 512


def is_toy(model: str) -> bool:
    return model.startswith("toy-")


def toy_config(model: str) -> Any:
    """Configuration of a toy model. Raises: ConfigError listing the names."""
    match = _NAME.match(model)
    if not match:
        raise ConfigError(
            f"model: there is no {model!r}; toy models are toy-llama, toy-qwen2, toy-qwen3, toy-deepseek-v3"
        )
    import transformers

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
    return transformers.DeepseekV3Config(
        **common,
        num_key_value_heads=4,
        kv_lora_rank=32,
        q_lora_rank=32,
        qk_rope_head_dim=16,
        qk_nope_head_dim=16,
        v_head_dim=16,
        moe_intermediate_size=64,
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
    )
