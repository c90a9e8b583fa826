"""Small sealed blocks, and the stores that hold them."""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.kv.keys import ROOT
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import BlockStore

LAYOUT = KvLayout(num_layers=3, block_tokens=4, bytes_per_token_layer=512)
MakeBlock = Callable[..., np.ndarray]
NewSlot = Callable[[], np.ndarray]


def page_aligned_slot() -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, LAYOUT.slot_bytes), np.uint8)


@pytest.fixture
def layout() -> KvLayout:
    return LAYOUT


@pytest.fixture
def new_slot() -> NewSlot:
    return page_aligned_slot


@pytest.fixture
def make_block() -> MakeBlock:
    def make(key: bytes, parent: bytes = ROOT, weights_version: int = 0, layout: KvLayout = LAYOUT) -> np.ndarray:
        slot = np.frombuffer(mmap.mmap(-1, layout.slot_bytes), np.uint8)
        slot[:] = np.random.default_rng(list(key)).integers(0, 256, layout.slot_bytes, np.uint8)
        seal(slot, SealedHeader(layout, weights_version, key, parent))
        return slot

    return make


@pytest.fixture(params=["memory", "local", "local, buffered"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlockStore:
    if request.param == "local, buffered":
        return LocalBlockStore(tmp_path / "store", LAYOUT, direct=False)
    return open_store(request.param, tmp_path / "store", LAYOUT)
