"""KV sizes and cache-compute ratios against the paper's Table 1, as recomputed by the project."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.known import KNOWN, known_model
from dualpath_ray.models.spec import flops_per_token, gb_per_pflop, kv_bytes_per_token

TABLE_1 = [  # bytes a token, GB per PFLOP at 16K and 64K of context, append 429
    ("qwen2.5-32b", 262_144, 116, 265),
    ("gpt-oss-120b", 18_432, 46.8, 95.4),
    ("qwen3-235b-a22b", 96_256, 38.9, 59.8),
    ("deepseek-v3.2", 42_944, 13.1, 37.6),
    ("deepseek-v3", 35_136, 3.8, 4.5),
]


@pytest.mark.parametrize(("name", "kv_bytes", "at_16k", "at_64k"), TABLE_1)
def test_table_1(name, kv_bytes, at_16k, at_64k):
    spec = known_model(name)
    assert kv_bytes_per_token(spec) == kv_bytes
    assert gb_per_pflop(spec, 16_384, 429) == pytest.approx(at_16k, rel=0.01)
    assert gb_per_pflop(spec, 65_536, 429) == pytest.approx(at_64k, rel=0.01)


def test_smollm2_block_sizes():
    spec = known_model("smollm2-135m")
    assert kv_bytes_per_token(spec) == 46_080 and kv_bytes_per_token(spec, element_bytes=2) == 23_040
    assert 64 * kv_bytes_per_token(spec) == 2_949_120


@pytest.mark.parametrize("name", KNOWN)
def test_gqa_elements_follow_from_the_heads_and_flops_grow_with_context(name):
    spec = known_model(name)
    if not name.startswith("deepseek"):
        assert spec.kv_elements_per_token_layer == 2 * spec.kv_heads * spec.head_dim
    assert flops_per_token(spec, 0) == 2 * spec.active_parameters
    assert flops_per_token(spec, 60_000) > flops_per_token(spec, 30_000) > flops_per_token(spec, 0)


def test_sparse_attention_stops_growing_but_its_indexer_does_not():
    dense, sparse = known_model("deepseek-v3"), known_model("deepseek-v3.2")
    grown = flops_per_token(sparse, 65_536) - flops_per_token(sparse, 32_768)
    assert 0 < grown < (flops_per_token(dense, 65_536) - flops_per_token(dense, 32_768)) / 5


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"no-such.*deepseek-v3\.2, gpt-oss-120b"):
        known_model("no-such")
