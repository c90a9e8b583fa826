"""Opens the store that the configuration names."""

from collections.abc import Callable

from dualpath_ray.base.plugin import load_callable
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.memory import MemoryBlockStore
from dualpath_ray.storage.port import BlockStore

OpenStore = Callable[[str, KvLayout], BlockStore]


def _usrbio(root: str, layout: KvLayout) -> BlockStore:
    from dualpath_ray.storage.usrbio import UsrbioIo

    return LocalBlockStore(root, layout, io=UsrbioIo(root))


def _nixl(plugin: str) -> OpenStore:
    def open_it(root: str, layout: KvLayout) -> BlockStore:
        from dualpath_ray.storage.nixl_io import NixlIo

        return LocalBlockStore(root, layout, io=NixlIo(plugin))

    return open_it


def _s3(root: str, layout: KvLayout) -> BlockStore:
    from dualpath_ray.storage.object_store import ObjectBlockStore

    return ObjectBlockStore(root, layout)


STORES: dict[str, OpenStore] = {
    "local": LocalBlockStore,
    "nixl_posix": _nixl("POSIX"),
    "nixl_gds": _nixl("GDS"),
    "nixl_hf3fs": _nixl("HF3FS"),
    "usrbio": _usrbio,
    "s3": _s3,
    "memory": lambda root, layout: MemoryBlockStore(layout),
}


def store_factory(spec: str) -> OpenStore:
    """What makes the store of ``spec``: a name in STORES, or ``module:attr``, a callable that takes (root, layout).

    Raises: ConfigError naming the key ``storage.store`` when there is no such store.
    """
    return STORES.get(spec) or load_callable(spec, "storage.store", "store", tuple(STORES), "(root, layout)")


def open_store(spec: str, root: str, layout: KvLayout) -> BlockStore:
    """The store of ``spec`` in a directory or at an address.

    Raises: as ``store_factory``; ConfigError when what the store needs is not here.
    """
    return store_factory(spec)(root, layout)
