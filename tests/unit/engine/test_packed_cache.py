"""The cache that a model sees: rows of each request in its own place, and all that it returns in the requests' order."""

import pytest
import torch

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.engine.kv_type import KvType
from dualpath_ray.engine.packed_cache import PackedCache

KEY, VALUE, INDEX = 4, 2, 3  # elements of a token: latent, RoPE key, indexer's key
STARTS, NEW = (5, 0, 2), (2, 3, 1)
SAME = KvType(torch.float32, torch.float32)
SPANS = [(0, 2), (2, 5), (5, 6)]


class Layers:
    """LayerKv whose cached rows count up, and which notes what was called."""

    def __init__(self, elements=KEY + VALUE + INDEX):
        self.calls = []
        made = [torch.zeros(start + new, elements) for start, new in zip(STARTS, NEW, strict=True)]
        for request, (rows, start) in enumerate(zip(made, STARTS, strict=True)):
            rows[:start] = 100 * request + torch.arange(start)[:, None] + torch.arange(elements) / 10
        self.rows = [rows.view(torch.uint8) for rows in made]

    def begin_layer(self, layer):
        self.calls.append(("begin", layer))
        return self.rows

    def end_layer(self, layer):
        self.calls.append(("end", layer))


def new_states(heads, width):
    return -1 - torch.arange(sum(NEW) * width, dtype=torch.float32).reshape(1, heads, sum(NEW), width)


def test_an_indexers_keys_stand_behind_the_latent_and_end_the_layer():
    layers = Layers()
    cache = PackedCache(layers, SPANS, SAME, latent=True, index_elements=INDEX)
    latent, rope = new_states(1, KEY), new_states(1, VALUE) - 50
    keys, values = cache.update(latent, rope, 7)
    assert layers.calls == [("begin", 7)]  # its new rows are not complete
    index = (new_states(1, INDEX) - 90)[0]
    found = cache.update_indexer(index, 7)
    assert layers.calls == [("begin", 7), ("end", 7)]
    tables = [rows.view(torch.float32) for rows in layers.rows]
    assert torch.equal(found[0], torch.cat([table[:, KEY + VALUE :] for table in tables]))
    assert torch.equal(keys[0, 0], torch.cat([table[:, :KEY] for table in tables]))
    assert torch.equal(values[0, 0], torch.cat([table[:, KEY : KEY + VALUE] for table in tables]))
    for request, (table, start, (first, stop)) in enumerate(zip(tables, STARTS, SPANS, strict=True)):
        cached = 100 * request + torch.arange(start)[:, None] + torch.arange(KEY + VALUE + INDEX) / 10
        assert torch.equal(table[:start], cached.float())
        assert torch.equal(table[start:, :KEY], latent[0, 0, first:stop])
        assert torch.equal(table[start:, KEY + VALUE :], index[0, first:stop])


def test_without_an_indexer_the_layer_ends_at_once():
    layers = Layers(KEY + VALUE)
    PackedCache(layers, SPANS, SAME, latent=True).update(new_states(1, KEY), new_states(1, VALUE), 0)
    assert layers.calls == [("begin", 0), ("end", 0)]


def test_rows_of_another_width_are_refused():
    cache = PackedCache(Layers(), SPANS, SAME, latent=True)
    with pytest.raises(LayoutError, match="the model stores 6 elements a token, not 9"):
        cache.update(new_states(1, KEY), new_states(1, VALUE), 0)
