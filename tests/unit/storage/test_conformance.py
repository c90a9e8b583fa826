"""What every BlockStore promises; a new adapter joins the ``store`` fixture."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dualpath_ray.base.errors import BlockNotFoundError, CorruptBlockError, LayoutError
from dualpath_ray.storage.port import read_verified

A, B, C = (bytes([i]) * 32 for i in (1, 2, 3))


def test_what_was_written_is_read_and_proven(store, make_block, new_slot, layout):
    block = make_block(A)
    store.write(A, block)
    slot = new_slot()
    read_verified(store, A, slot, layout)
    assert np.array_equal(slot, block)


def test_a_block_that_is_not_there_is_said_to_be_so(store, new_slot):
    with pytest.raises(BlockNotFoundError, match=A.hex()[:16]):
        store.read(A, new_slot())


def test_the_store_keeps_its_own_copy(store, make_block, new_slot, layout):
    block = make_block(A)
    store.write(A, block)
    block[:] = 0
    read_verified(store, A, new_slot(), layout)


def test_writing_again_replaces(store, make_block, new_slot, layout):
    store.write(A, make_block(A, weights_version=1))
    store.write(A, make_block(A, weights_version=2))
    read_verified(store, A, new_slot(), layout)
    assert [header.weights_version for header, _ in store.scan()] == [2]


def test_delete_removes_and_needs_nothing_to_be_there(store, make_block, new_slot):
    store.write(A, make_block(A))
    store.delete(A)
    store.delete(A)
    with pytest.raises(BlockNotFoundError):
        store.read(A, new_slot())
    assert list(store.scan()) == []


def test_scan_tells_headers_and_order_of_use(store, make_block, new_slot):
    for key, parent in ((A, B), (B, C)):
        store.write(key, make_block(key, parent))
    store.read(A, new_slot())
    found = sorted(store.scan(), key=lambda item: item[1])
    assert {(header.key, header.parent) for header, _ in found} == {(A, B), (B, C)}
    assert found[-1][1] >= found[0][1]


def test_a_block_under_a_wrong_key_is_never_served(store, make_block, new_slot, layout):
    store.write(A, make_block(B))
    with pytest.raises(CorruptBlockError, match="it is block"):
        read_verified(store, A, new_slot(), layout)
    assert list(store.scan()) == []
    with pytest.raises(BlockNotFoundError):
        store.read(A, new_slot())


@pytest.mark.parametrize("where", ["header", "first layer", "last layer"])
def test_a_flipped_bit_is_never_served(store, make_block, new_slot, layout, where):
    block = make_block(A)
    position = {"header": 5, "first layer": layout.header_bytes, "last layer": layout.layer_offset(2) + 7}[where]
    block[position] ^= 16
    store.write(A, block)
    with pytest.raises(CorruptBlockError):
        read_verified(store, A, new_slot(), layout)


def test_a_slot_of_another_shape_is_refused(store, layout):
    with pytest.raises(LayoutError):
        store.write(A, np.zeros(layout.slot_bytes - 1, np.uint8))
    with pytest.raises(LayoutError):
        store.read(A, np.zeros(layout.slot_bytes, np.int8))


def test_many_threads_may_use_it_at_once(store, make_block, new_slot, layout):
    keys = [bytes([i]) * 32 for i in range(24)]

    def use(key: bytes) -> None:
        store.write(key, make_block(key))
        read_verified(store, key, new_slot(), layout)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, keys * 2))
    assert {header.key for header, _ in store.scan()} == set(keys)


def test_an_owner_leaves_an_identity_that_stays(store):
    list(store.scan())
    identity = store.identity()
    list(store.scan())
    assert identity == store.identity() != ""


def test_a_scanned_store_can_be_checked_and_closed(store):
    list(store.scan())
    store.check()
    store.close()
