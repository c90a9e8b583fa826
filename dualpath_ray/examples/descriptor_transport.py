"""A transport of one's own: ``transport: dualpath_ray.examples.descriptor_transport:DescriptorTransport``."""

import os
from collections.abc import Callable

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
        self._peers: dict[str, tuple[int, int]] = {}  # file descriptor of its pool, and the pool's bytes

    def describe(self) -> bytes:
        return Place.of(self._node, self._segment, {}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        try:
            self._peers[peer] = os.open(place.path, os.O_RDWR), place.num_bytes
        except OSError as error:
            raise TransportError(f"{self._node} cannot open the pool of {peer}: {error.strerror}") from error

    def read(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, lambda fd, view, offset: os.preadv(fd, [view], offset))

    def write(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, lambda fd, view, offset: os.pwritev(fd, [view], offset))

    def _copy(self, peer: str, batch: CopyBatch, move: Callable[[int, memoryview, int], int]) -> None:
        if peer not in self._peers:
            raise TransportError(f"{self._node} is not connected to {peer}")
        fd, num_bytes = self._peers[peer]
        between = f"{self._node} and {peer}"
        batch.check_within(len(self._view), num_bytes, between)
        for local, remote, nbytes in zip(
            batch.local.tolist(), batch.remote.tolist(), batch.nbytes.tolist(), strict=True
        ):
            try:
                moved = move(fd, self._view[local : local + nbytes], remote)
            except OSError as error:
                raise TransportError(f"copy between {between} failed: {error.strerror}") from error
            if moved != nbytes:
                raise TransportError(f"copy between {between} ended after {moved} of {nbytes} bytes")

    def disconnect(self, peer: str) -> None:
        known = self._peers.pop(peer, None)
        if known is not None:
            os.close(known[0])

    def close(self) -> None:
        for fd, _ in self._peers.values():
            os.close(fd)
        self._peers.clear()
