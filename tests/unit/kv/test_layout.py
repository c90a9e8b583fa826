"""Blocks and slots: sizes and ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.base.units import PAGE_BYTES
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import header_size

layouts = st.builds(KvLayout, st.integers(1, 700), st.integers(1, 128), st.integers(1, 4096))


@given(layouts)
def test_a_slot_is_whole_pages_and_holds_header_and_block(layout):
    assert layout.slot_bytes % PAGE_BYTES == 0 == layout.header_bytes % PAGE_BYTES
    assert header_size(layout.num_layers) <= layout.header_bytes
    assert 0 <= layout.slot_bytes - layout.header_bytes - layout.full_block_bytes < PAGE_BYTES
    assert layout.layer_offset(layout.num_layers - 1) + layout.layer_block_bytes <= layout.slot_bytes
    with pytest.raises(LayoutError):
        layout.layer_offset(layout.num_layers)


@given(layouts, st.integers(0, 10_000))
def test_blocks_of_tokens(layout, tokens):
    blocks = layout.num_blocks(tokens)
    assert (blocks - 1) * layout.block_tokens < tokens <= blocks * layout.block_tokens


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_dimensions_are_positive(shape):
    with pytest.raises(LayoutError):
        KvLayout(*shape)
