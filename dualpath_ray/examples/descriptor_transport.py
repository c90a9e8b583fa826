"""A transport of one's own: ``transport: dualpath_ray.examples.descriptor_transport:DescriptorTransport``."""

import os

from dualpath_ray.base.errors import TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyBatch


class DescriptorTransport:
    """Copies through the file descriptor of the peer's pool, where the built-in adapter maps it."""

    name = "descriptor"
    inline_bytes = 1 << 20

    def __init__(self, node: str, segment: Segment) -> None:
        self._node, self._segment = node, segment
        self._view = memoryview(segment.mapping)
        self._peers: dict[str, int] = {}

    def describe(self) -> bytes:
        return Place.of(self._node, self._segment, {}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        self._peers[peer] = os.open(place.path, os.O_RDWR)

    def read(self, peer: str, batch: CopyBatch) -> None:
        fd = self._of(peer)
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            os.preadv(fd, [self._view[local : local + nbytes]], remote)

    def write(self, peer: str, batch: CopyBatch) -> None:
        fd = self._of(peer)
        for local, remote, nbytes in zip(batch.local, batch.remote, batch.nbytes, strict=True):
            os.pwritev(fd, [self._view[local : local + nbytes]], remote)

    def _of(self, peer: str) -> int:
        if peer not in self._peers:
            raise TransportError(f"{self._node} is not connected to {peer}")
        return self._peers[peer]

    def close(self) -> None:
        for fd in self._peers.values():
            os.close(fd)
        self._peers.clear()
