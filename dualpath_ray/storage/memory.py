"""Blocks in a dictionary of this process: for tests and for runs that need no storage shared between processes."""

import os
import threading
import time
from collections.abc import Iterator

import numpy as np

from dualpath_ray.base.errors import BlockNotFoundError, CorruptBlockError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, read_header
from dualpath_ray.storage.port import check_slot


class MemoryBlockStore:
    """A BlockStore whose blocks end with the process."""

    def __init__(self, layout: KvLayout, name: str = "memory") -> None:
        self.name = name
        self._layout = layout
        self._lock = threading.Lock()
        self._blocks: dict[bytes, tuple[np.ndarray, float]] = {}

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Any memory will do."""

    def read(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.read."""
        check_slot(slot, self._layout)
        with self._lock:
            found = self._blocks.get(key)
            if found is None:
                raise BlockNotFoundError(key.hex()[:16], self.name)
            self._blocks[key] = (found[0], time.time())
        slot[:] = found[0]  # a stored array is never written again, so the copy needs no lock

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.write."""
        check_slot(slot, self._layout)
        block = slot.copy()
        with self._lock:
            self._blocks[key] = (block, time.time())

    def delete(self, key: bytes) -> None:
        """See BlockStore.delete."""
        with self._lock:
            self._blocks.pop(key, None)

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        """See BlockStore.scan."""
        with self._lock:
            blocks = list(self._blocks.items())
        for key, (block, last_used) in blocks:
            try:
                header = read_header(block, key.hex()[:16])
            except CorruptBlockError:
                self.delete(key)
                continue
            if header.key == key and header.layout == self._layout:
                yield header, last_used
            else:
                self.delete(key)

    def check(self) -> None:
        """Memory can always be read."""

    def identity(self) -> str:
        """See BlockStore.identity."""
        return f"{os.getpid()} {id(self)}"

    def close(self) -> None:
        """Forget every block."""
        with self._lock:
            self._blocks.clear()
