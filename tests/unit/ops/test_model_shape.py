"""Models that run here, as planning sees them: their parameters are those of the shape."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.engine.describe import describe
from dualpath_ray.models.parameters import Gqa, Mla, Moe, Stack, count_parameters
from dualpath_ray.models.spec import kv_bytes_per_token, weight_bytes
from dualpath_ray.ops import model_shape
from dualpath_ray.ops.model_shape import planning_spec

MLA = Mla(4, q_rank=32, kv_rank=32, rope_dim=16, nope_dim=16, value_dim=16)
STACKS = {
    "toy-llama": Stack(64, 4, 512, Gqa(4, 2, 16), dense_layers=4, dense_intermediate=128),
    "toy-qwen3": Stack(64, 4, 512, Gqa(4, 2, 16), dense_layers=4, dense_intermediate=128),
    "toy-deepseek-v3": Stack(64, 4, 512, MLA, dense_layers=1, dense_intermediate=128, moe=Moe(4, 2, 64, shared=1)),
}


@pytest.mark.parametrize("model", STACKS)
def test_parameters_of_a_model_that_runs_here(model):
    spec, count = planning_spec(describe(model, "bfloat16", seed=0), "bfloat16"), count_parameters(STACKS[model])
    assert spec.total_parameters == pytest.approx(count.total, rel=0.005)  # norms are not in the arithmetic
    assert spec.active_parameters == pytest.approx(count.active, rel=0.005)
    assert spec.expert_parameters == count.expert
    assert weight_bytes(spec) == 2 * spec.total_parameters


def test_experts_and_latent_are_the_engines():
    spec = planning_spec(describe("toy-deepseek-v3", "float32", seed=0), "float32")
    assert (spec.moe_layers, spec.routed_experts, spec.experts_per_token) == (3, 4, 2)
    assert kv_bytes_per_token(spec) == 4 * (32 + 16) * 4 and (spec.qk_dim, spec.value_dim) == (48, 32)


def test_an_indexers_keys_are_cached_beside_the_latent():
    spec = planning_spec(describe("toy-deepseek-v3.2", "float32", seed=0), "float32")
    assert kv_bytes_per_token(spec) == 4 * (32 + 16 + 32) * 4 and (spec.qk_dim, spec.value_dim) == (48, 32)
    assert (spec.top_k_tokens, spec.indexer_heads, spec.indexer_dim) == (4096, 2, 32)


def test_a_model_that_transformers_cannot_build_is_named(monkeypatch):
    found = describe("toy-llama", "float32", seed=0)
    monkeypatch.setattr(model_shape, "read_config", lambda model: object())
    with pytest.raises(ConfigError, match=r"model: toy-llama cannot be laid out \(.*\)"):
        planning_spec(found, "float32")
