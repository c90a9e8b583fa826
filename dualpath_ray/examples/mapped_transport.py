"""A transport of one's own: ``transport: dualpath_ray.examples.mapped_transport:MappedTransport``."""

import mmap
import os
from pathlib import Path

import numpy as np

from dualpath_ray.kv.segment import Segment
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
        fd = os.open(Path(description.decode().split("\n")[1]), os.O_RDWR)
        self._mapped[peer] = np.frombuffer(mmap.mmap(fd, 0), np.uint8)
        os.close(fd)

    def read(self, peer: str, batch: CopyBatch) -> None:
        there = self._mapped[peer]
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            self._segment.bytes[local : local + nbytes] = there[remote : remote + nbytes]

    def write(self, peer: str, batch: CopyBatch) -> None:
        there = self._mapped[peer]
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            there[remote : remote + nbytes] = self._segment.bytes[local : local + nbytes]
