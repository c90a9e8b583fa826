"""What an adapter calls between the layers of a real model: once a layer, before the next one begins."""

import pytest
import torch

from dualpath_ray.engine.describe import describe
from dualpath_ray.engine.model import ModelAdapter


class Rows:
    """LayerKv without cached tokens."""

    def __init__(self, adapter, lengths, calls):
        size = adapter.description.kv_elements_per_token_layer * 4
        self._rows, self._calls = [torch.zeros(n, size, dtype=torch.uint8) for n in lengths], calls

    def begin_layer(self, layer):
        self._calls.append(("begin", layer))
        return self._rows

    def end_layer(self, layer):
        """Its KV is complete; attention and what follows it come after this."""


@pytest.mark.parametrize("model", ["toy-llama", "toy-qwen2", "toy-deepseek-v3"])
def test_each_layer_is_followed_by_the_number_of_its_new_tokens(model):
    adapter, calls = ModelAdapter(describe(model, "float32", 0), "float32", 0), []
    before = adapter.forward([[5, 6, 7], [8]], [0, 0], Rows(adapter, [3, 1], []), [0, 1])
    adapter.after_layer(lambda num_tokens: calls.append(("after", num_tokens)))
    assert not adapter.records_decode
    logits = adapter.forward([[5, 6, 7], [8]], [0, 0], Rows(adapter, [3, 1], calls), [0, 1])
    assert torch.equal(logits, before)
    layers = range(adapter.description.num_layers)
    assert calls == [call for layer in layers for call in (("begin", layer), ("after", 4))]
