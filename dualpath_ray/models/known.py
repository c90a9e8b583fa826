"""The models that the paper speaks of, and the small one that runs anywhere, as data.

Sources: the models' published configurations. Element sizes are those of the paper's Table 1: FP8, but FP16 for
Qwen2.5-32B; FP32 for smollm2-135m, as this project runs it.
"""

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.spec import ModelSpec

_SPECS = (
    ModelSpec(
        name="smollm2-135m",
        num_layers=30,
        hidden=576,
        heads=9,
        kv_heads=3,
        head_dim=64,
        kv_elements_per_token_layer=2 * 3 * 64,
        kv_element_bytes=4,
        active_parameters=134_515_008,
        max_context_tokens=8_192,
        kv_layers=30,
        qk_dim=64,
        value_dim=64,
    ),
    ModelSpec(
        name="qwen2.5-32b",
        num_layers=64,
        hidden=5120,
        heads=40,
        kv_heads=8,
        head_dim=128,
        kv_elements_per_token_layer=2 * 8 * 128,
        kv_element_bytes=2,
        active_parameters=32_500_000_000,
        max_context_tokens=131_072,
        kv_layers=64,
        qk_dim=128,
        value_dim=128,
    ),
    ModelSpec(
        name="qwen3-235b-a22b",
        num_layers=94,
        hidden=4096,
        heads=64,
        kv_heads=4,
        head_dim=128,
        kv_elements_per_token_layer=2 * 4 * 128,
        kv_element_bytes=1,
        active_parameters=22_000_000_000,
        max_context_tokens=131_072,
        kv_layers=94,
        qk_dim=128,
        value_dim=128,
    ),
    ModelSpec(
        name="gpt-oss-120b",
        num_layers=36,
        hidden=2880,
        heads=64,
        kv_heads=8,
        head_dim=64,
        kv_elements_per_token_layer=2 * 8 * 64,
        kv_element_bytes=1,
        active_parameters=5_100_000_000,
        max_context_tokens=131_072,
        kv_layers=18,  # every other layer attends to a window of 128 tokens
        qk_dim=64,
        value_dim=64,
    ),
    ModelSpec(
        name="deepseek-v3",
        num_layers=61,
        hidden=7168,
        heads=128,
        kv_heads=1,
        head_dim=576,
        kv_elements_per_token_layer=512 + 64,
        kv_element_bytes=1,
        active_parameters=37_000_000_000,
        max_context_tokens=163_840,
        kv_layers=61,
        qk_dim=576,
        value_dim=512,
    ),
    ModelSpec(
        name="deepseek-v3.2",
        num_layers=61,
        hidden=7168,
        heads=128,
        kv_heads=1,
        head_dim=576,
        kv_elements_per_token_layer=512 + 64 + 128,
        kv_element_bytes=1,
        active_parameters=37_000_000_000,
        max_context_tokens=163_840,
        kv_layers=61,
        qk_dim=576,
        value_dim=512,
        top_k_tokens=2_048,
        indexer_heads=64,
        indexer_dim=128,
    ),
)
KNOWN = {spec.name: spec for spec in _SPECS}


def known_model(name: str) -> ModelSpec:
    """The model of this name. Raises: ConfigError naming those that there are."""
    try:
        return KNOWN[name]
    except KeyError:
        raise ConfigError(f"model {name}: unknown shape; known are {', '.join(sorted(KNOWN))}") from None
