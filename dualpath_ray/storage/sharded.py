"""A store whose blocks are spread over several storage nodes, each reached as well as this process can."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dualpath_ray.base.errors import ConfigError, StorageError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.port import BlockStore
from dualpath_ray.storage.root import shard_root
from dualpath_ray.storage.served import ServedBlockStore
from dualpath_ray.storage.shards import shard_of
from dualpath_ray.storage.wire import ServedAt

Access = Literal["auto", "files", "network"]


@dataclass(frozen=True, slots=True)
class Shard:
    """What a storage node says of itself: how to tell that one sees its store, and where it serves it."""

    identity: str
    served: ServedAt


class ShardedStore:
    """Sends every key to the store of the storage node that owns it. For readers and writers; owners open their own."""

    def __init__(self, stores: list[BlockStore], served_by: Sequence[str] = ()) -> None:
        """Args: served_by: hosts of the storage nodes that are read from over the network."""
        self._stores = stores
        self.served_by = tuple(served_by)
        self.name = stores[0].name

    def attach(self, memory: np.ndarray, path: str) -> None:
        for store in self._stores:
            store.attach(memory, path)

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

    def identity(self) -> str:
        return " ".join(store.identity() for store in self._stores)

    def close(self) -> None:
        for store in self._stores:
            store.close()

    def _of(self, key: bytes) -> BlockStore:
        return self._stores[shard_of(key, len(self._stores))]


def open_shards(
    spec: str,
    root: str,
    layout: KvLayout,
    shards: Sequence[Shard],
    access: Access,
    reader: str,
    address: str | None = None,
) -> ShardedStore:
    """The whole block space, as a reader or writer sees it.

    Args:   access: ``files``, ``network`` (from the storage nodes), or ``auto``: files where this process sees the very
            store that the storage node does, else the network; reader: who reads, for errors; address: of the storage
            NIC, which connections to storage nodes leave from.
    Raises: ConfigError naming ``storage.store``.
    """

    def one(index: int, shard: Shard) -> BlockStore:
        served = ServedBlockStore(shard.served, layout, reader, address)
        if access == "network":
            return served
        place = shard_root(root, index, len(shards))
        if access == "files":
            return open_store(spec, place, layout)
        try:
            store = open_store(spec, place, layout)
        except ConfigError:
            return served  # what the store needs is not on this host
        if _is_same(store, shard.identity):
            return store
        store.close()
        return served

    stores = [one(index, shard) for index, shard in enumerate(shards)]
    over_network = zip(stores, shards, strict=True)
    return ShardedStore(
        stores, [shard.served.host for store, shard in over_network if isinstance(store, ServedBlockStore)]
    )


def _is_same(store: BlockStore, identity: str) -> bool:
    try:
        return bool(identity) and store.identity() == identity
    except StorageError:
        return False
