"""A transport of one's own: ``transport: dualpath_ray.examples.mapped_transport:MappedTransport``."""

import mmap
import os

import numpy as np

from dualpath_ray.base.errors import TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyBatch
from dualpath_ray.transport.shared_memory import SharedMemoryTransport


class MappedTransport(SharedMemoryTransport):
    """Maps the peer's pool and copies with numpy, where the built-in adapter copies through its file."""

    name = "mapped"

    def __init__(self, node: str, segment: Segment) -> None:
        super().__init__(node, segment)
        self._mapped: dict[str, np.ndarray] = {}

    def connect(self, peer: str, description: bytes) -> None:
        super().connect(peer, description)
        fd = os.open(Place.unpack(description).path, os.O_RDWR)
        self._mapped[peer] = np.frombuffer(mmap.mmap(fd, 0), np.uint8)
        os.close(fd)

    def _pool_of(self, peer: str) -> np.ndarray:
        if peer not in self._mapped:
            raise TransportError(f"{self._node} is not connected to {peer}")
        return self._mapped[peer]

    def read(self, peer: str, batch: CopyBatch) -> None:
        there = self._pool_of(peer)
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            self._segment.bytes[local : local + nbytes] = there[remote : remote + nbytes]

    def write(self, peer: str, batch: CopyBatch) -> None:
        there = self._pool_of(peer)
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            there[remote : remote + nbytes] = self._segment.bytes[local : local + nbytes]
