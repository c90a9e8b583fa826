"""Types of stored KV: what rounding does, and that the engine's caches round as transformers' own cache would."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.engine.describe import DTYPE_BYTES, describe
from dualpath_ray.engine.kv_type import TORCH_DTYPES, KvType
from dualpath_ray.engine.model import ModelAdapter, load_model
from dualpath_ray.engine.rounded_cache import RoundedCache

LENGTHS = (40, 17)


class HeldKv:
    """LayerKv that keeps every layer's rows."""

    def __init__(self, num_layers, bytes_per_token_layer):
        self.rows = [
            [torch.zeros(n, bytes_per_token_layer, dtype=torch.uint8) for n in LENGTHS] for _ in range(num_layers)
        ]

    def begin_layer(self, layer):
        return self.rows[layer]

    def end_layer(self, layer):
        """The rows stay."""


def test_every_configured_type_has_its_size():
    assert {name: dtype.itemsize for name, dtype in TORCH_DTYPES.items()} == DTYPE_BYTES


@pytest.mark.parametrize("stored", ["bfloat16", "float8_e4m3"])
@given(value=st.floats(-1e6, 1e6, width=32))
def test_rounding_is_to_the_nearest_and_never_past_the_largest(stored, value):
    kv_type = KvType(TORCH_DTYPES[stored], torch.float32)
    limits = torch.finfo(TORCH_DTYPES[stored])
    found = float(kv_type.rounded(torch.tensor([value]))[0])
    clamped = max(-limits.max, min(limits.max, value))
    assert abs(found - clamped) <= max(limits.eps * abs(clamped) / 2, limits.smallest_normal * limits.eps)
    assert float(kv_type.rounded(torch.tensor([found]))[0]) == found


def test_the_same_type_is_the_same_memory():
    values = torch.randn(3, 4)
    assert KvType(torch.float32, torch.float32).rounded(values).data_ptr() == values.data_ptr()


@pytest.mark.parametrize("model", ["toy-qwen2", "toy-deepseek-v3", "toy-deepseek-v3.2"])
@pytest.mark.parametrize("stored", ["bfloat16", "float8_e4m3"])
def test_a_rounded_forward_is_transformers_own_with_a_rounded_cache(model, stored):
    description = describe(model, "float32", 0)
    adapter = ModelAdapter(description, "float32", 0, kv_dtype=stored)
    prompts = [torch.arange(2, 2 + n).mul(7).remainder(500).tolist() for n in LENGTHS]
    kv = HeldKv(description.num_layers, description.bytes_per_token_layer(stored))
    found = adapter.forward(prompts, [0, 0], kv, [0, 1])
    plain = load_model(model, torch.float32, 0)
    for row, prompt in zip(found, prompts, strict=True):
        ids, last = torch.tensor([prompt]), torch.tensor([len(prompt) - 1])
        with torch.inference_mode():
            cache = RoundedCache(adapter.kv_type, plain.config)
            expected = plain(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=last).logits[0, 0]
            exact = plain(input_ids=ids, use_cache=False, logits_to_keep=last).logits[0, 0]
        off = float((row - expected).abs().max())
        assert off < 0.1 * float((row - exact).abs().max()), "rounding shows, and both round alike"
