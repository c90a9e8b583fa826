"""KV sizes and cache-compute ratios against the paper's Table 1, as recomputed by the project."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.known import KNOWN, STACKS, known_model
from dualpath_ray.models.parameters import count_parameters
from dualpath_ray.models.spec import (
    decode_weight_bytes,
    flops_per_token,
    gb_per_pflop,
    kv_bytes_per_token,
    weight_bytes,
)

TABLE_1 = [  # bytes a token, GB per PFLOP at 16K and 64K of context, append 429
    ("qwen2.5-32b", 262_144, 117, 267),
    ("gpt-oss-120b", 18_432, 46.8, 95.4),
    ("qwen3-235b-a22b", 96_256, 38.9, 59.8),
    ("deepseek-v3.2", 42_944, 13.0, 37.4),
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
    if not name.startswith(("deepseek", "ds-")):
        assert spec.kv_elements_per_token_layer == 2 * spec.kv_heads * spec.head_dim
    assert flops_per_token(spec, 0) == 2 * spec.active_parameters
    assert flops_per_token(spec, 60_000) > flops_per_token(spec, 30_000) > flops_per_token(spec, 0)


def test_sparse_attention_stops_growing_but_its_indexer_does_not():
    dense, sparse = known_model("deepseek-v3"), known_model("deepseek-v3.2")
    grown = flops_per_token(sparse, 65_536) - flops_per_token(sparse, 32_768)
    assert 0 < grown < (flops_per_token(dense, 65_536) - flops_per_token(dense, 32_768)) / 5


PUBLISHED = [  # parameters in 10^9: all, and of one token (as published, with or without the input embedding)
    ("smollm2-135m", 0.134515, 0.134515),
    ("qwen2.5-32b", 32.76, 32.76 - 0.78),
    ("qwen3-235b-a22b", 235.1, 22.2 - 0.62),
    ("gpt-oss-120b", 116.8, 5.13),
    ("deepseek-v3", 671, 37),
    ("deepseek-v3.2", 671 + 0.85, 37 + 0.85),
    ("ds-27b", 27.2, 4.3),
]


@pytest.mark.parametrize(("name", "total", "active"), PUBLISHED)
def test_parameters_follow_from_the_shape(name, total, active):
    count = count_parameters(STACKS[name])
    assert count.total / 1e9 == pytest.approx(total, rel=0.002)
    assert count.active / 1e9 == pytest.approx(active, rel=0.02)
    spec = known_model(name)
    assert (spec.total_parameters, spec.active_parameters, spec.expert_parameters) == (
        count.total,
        count.active,
        count.expert,
    )


def test_ds_27b_is_the_papers_and_its_sum_can_be_checked_by_hand():
    spec = known_model("ds-27b")
    attention = 2560 * 32 * 192 + 2560 * 576 + 512 * 32 * 256 + 32 * 128 * 2560  # Q, latent, K and V, output
    indexer = 2560 * 32 * 64 + 2560 * 64 + 2560 * 32
    expert = 3 * 2560 * 1536
    every_layer, dense, embedding = attention + indexer, 3 * 2560 * 12_288, 129_280 * 2560
    assert spec.total_parameters == 30 * every_layer + dense + 29 * ((72 + 2) * expert + 2560 * 72) + 2 * embedding
    assert spec.active_parameters == 30 * every_layer + dense + 29 * ((6 + 2) * expert + 2560 * 72) + embedding
    assert kv_bytes_per_token(spec) == 30 * (512 + 64 + 64)
    assert (spec.moe_layers, spec.routed_experts, spec.experts_per_token, spec.top_k_tokens) == (29, 72, 6, 1024)


def test_the_papers_names():
    assert known_model("ds-660b") is known_model("deepseek-v3.2")


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("deepseek-v3", 671), ("qwen2.5-32b", 65.5), ("gpt-oss-120b", 65.3), ("smollm2-135m", 0.538)],
)
def test_weights_in_hbm(name, gigabytes):
    assert weight_bytes(known_model(name)) / 1e9 == pytest.approx(gigabytes, rel=0.003)


@pytest.mark.parametrize("name", KNOWN)
def test_a_decode_step_reads_more_experts_for_more_tokens_and_never_more_than_all(name):
    spec = known_model(name)
    reads = [decode_weight_bytes(spec, tokens) for tokens in (0, 1, 2, 8, 64, 100_000)]
    assert reads[0] == 0 and reads[1] == pytest.approx(spec.active_parameters * spec.weight_bytes_per_parameter)
    assert reads == sorted(reads) and reads[-1] <= weight_bytes(spec) * (1 + 1e-9)
    assert (reads[2] > reads[1]) == bool(spec.routed_experts)


def test_unknown_model_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"no-such.*deepseek-v3\.2, ds-27b, gpt-oss-120b"):
        known_model("no-such")
