"""Opens the store that the configuration names."""

from collections.abc import Callable
from pathlib import Path

from dualpath_ray.base.plugin import load_callable
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.memory import MemoryBlockStore
from dualpath_ray.storage.port import BlockStore


def store_factory(spec: str) -> Callable[[Path, KvLayout], BlockStore]:
    """What makes the store of ``spec``: ``local``, ``memory`` or ``module:attr``, a callable that takes (root, layout).

    Raises: ConfigError naming the key ``storage.store`` when there is no such store.
    """
    if spec == "local":
        return LocalBlockStore
    if spec == "memory":
        return lambda root, layout: MemoryBlockStore(layout)
    return load_callable(spec, "storage.store", "store", ("local", "memory"), "(root, layout)")


def open_store(spec: str, root: Path, layout: KvLayout) -> BlockStore:
    """The store of ``spec`` in a directory. Raises: as ``store_factory``."""
    return store_factory(spec)(root, layout)
