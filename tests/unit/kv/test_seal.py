"""No block is served that is not proven intact and the right one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import CorruptBlockError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, header_size, read_header, seal, verify

LAYOUT = KvLayout(num_layers=3, block_tokens=4, bytes_per_token_layer=40)
KEY, PARENT = bytes(range(32)), bytes(range(1, 33))


def sealed() -> np.ndarray:
    slot = np.random.default_rng(0).integers(0, 256, LAYOUT.slot_bytes, np.uint8)
    seal(slot, SealedHeader(LAYOUT, 7, KEY, PARENT))
    return slot


def test_a_sealed_block_is_itself():
    slot = sealed()
    before = slot.copy()
    verify(slot, KEY, LAYOUT)
    assert (slot == before).all()
    assert read_header(slot, "x") == SealedHeader(LAYOUT, 7, KEY, PARENT)
    assert not slot[header_size(3) : LAYOUT.header_bytes].any()
    assert not slot[LAYOUT.header_bytes + LAYOUT.full_block_bytes :].any()


flips = st.one_of(
    st.integers(0, header_size(LAYOUT.num_layers) - 1),
    st.integers(LAYOUT.header_bytes, LAYOUT.header_bytes + LAYOUT.full_block_bytes - 1),
)


@given(flips, st.integers(1, 255))
def test_a_changed_byte_anywhere_is_detected(at, bits):
    slot = sealed()
    slot[at] ^= bits
    with pytest.raises(CorruptBlockError):
        verify(slot, KEY, LAYOUT)


@pytest.mark.parametrize("layer", range(3))
def test_the_damaged_layer_is_named(layer):
    slot = sealed()
    slot[LAYOUT.layer_offset(layer)] ^= 1
    with pytest.raises(CorruptBlockError, match=f"checksum of layer {layer} differs"):
        verify(slot, KEY, LAYOUT)


def test_another_block_is_not_the_one_asked_for():
    with pytest.raises(CorruptBlockError, match="it is block 000102"):
        verify(sealed(), PARENT, LAYOUT)


def test_another_layout_is_detected():
    other = KvLayout(3, 8, 20)
    assert other.slot_bytes == LAYOUT.slot_bytes
    with pytest.raises(CorruptBlockError, match="layout is"):
        verify(sealed(), KEY, other)


@given(st.integers(0, header_size(3) - 1))
def test_a_header_cut_short_is_detected(length):
    with pytest.raises(CorruptBlockError):
        read_header(sealed()[:length].tobytes(), "x")


def test_an_empty_slot_is_no_block():
    with pytest.raises(CorruptBlockError, match="no block header"):
        verify(np.zeros(LAYOUT.slot_bytes, np.uint8), KEY, LAYOUT)
