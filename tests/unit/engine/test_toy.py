"""Models with random weights are described without transformers; its configurations say the same of them."""

from dataclasses import replace

import pytest

from dualpath_ray.engine.describe import describe, describe_config
from dualpath_ray.engine.toy import toy_config

SMALL = ["toy-llama", "toy-llama-32l", "toy-qwen2", "toy-qwen3", "toy-deepseek-v3", "toy-deepseek-v3.2"]
LARGE = ["random-qwen2.5-7b", "random-deepseek-v3-4l"]


@pytest.mark.parametrize("model", SMALL + LARGE)
def test_a_toy_is_described_as_transformers_would(model: str) -> None:
    described = describe(model, "bfloat16", 0)
    from_transformers = describe_config(toy_config(model), model, "bfloat16", 0)
    assert replace(described, fingerprint="") == replace(from_transformers, fingerprint="")


def test_a_toy_has_the_fingerprint_of_its_name_dtype_and_seed() -> None:
    prints = {describe(m, d, s).fingerprint for m in SMALL for d in ("float32", "bfloat16") for s in (0, 1)}
    assert len(prints) == len(SMALL) * 4
    assert describe("toy-llama", "float32", 0).fingerprint == describe("toy-llama", "float32", 0).fingerprint
