"""A block store of one's own: ``storage.store: dualpath_ray.examples.counting_store:CountingStore``."""

import numpy as np

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage.local import LocalBlockStore


class CountingStore(LocalBlockStore):
    """Local files, and a count of what this process read: the place for a cache, a compressor, another server."""

    def __init__(self, root: str, layout: KvLayout) -> None:
        super().__init__(root, layout)
        self.num_reads = 0

    def read(self, key: bytes, slot: np.ndarray) -> None:
        self.num_reads += 1
        super().read(key, slot)
