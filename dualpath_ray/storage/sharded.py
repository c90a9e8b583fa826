"""A store whose blocks are spread over the folders of several storage nodes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.port import BlockStore
from dualpath_ray.storage.shards import shard_of


def shard_root(root: Path, shard: int, num_shards: int) -> Path:
    """Folder of one storage node; the only one has the root to itself."""
    return root if num_shards == 1 else root / f"shard{shard}"


class ShardedStore:
    """Sends every key to the store of the storage node that owns it. For readers and writers; owners open their own."""

    def __init__(self, stores: list[BlockStore]) -> None:
        self._stores = stores
        self.name = stores[0].name

    def read(self, key: bytes, slot: np.ndarray) -> None:
        self._of(key).read(key, slot)

    def write(self, key: bytes, slot: np.ndarray) -> None:
        self._of(key).write(key, slot)

    def delete(self, key: bytes) -> None:
        self._of(key).delete(key)

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        for store in self._stores:
            yield from store.scan()

    def check(self) -> None:
        for store in self._stores:
            store.check()

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def _of(self, key: bytes) -> BlockStore:
        return self._stores[shard_of(key, len(self._stores))]


def open_shards(spec: str, root: Path, layout: KvLayout, num_shards: int) -> BlockStore:
    """The whole block space, as a reader or writer sees it. Raises: ConfigError naming ``storage.store``."""
    return ShardedStore([open_store(spec, shard_root(root, i, num_shards), layout) for i in range(num_shards)])
