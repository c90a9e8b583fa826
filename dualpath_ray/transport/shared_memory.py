"""Shared memory between the pools of two nodes on one host.

The peer's segment is reached through its file descriptor, as RDMA reaches registered memory: one copy from or to this
node's pool, and no process of this node maps the peer's memory.
"""

import os
from collections.abc import Callable

from dualpath_ray.base.errors import TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place, shared_memory_id
from dualpath_ray.transport.port import CopyBatch


class SharedMemoryTransport:
    """Adapter for nodes that share one /dev/shm."""

    name = "shared_memory"
    inline_bytes = 1 << 20

    def __init__(self, node: str, segment: Segment) -> None:
        self._node, self._segment = node, segment
        self._view = memoryview(segment.mapping)
        self._peers: dict[str, tuple[int, int]] = {}  # file descriptor of its pool, and the pool's bytes

    def describe(self) -> bytes:
        return Place.of(self._node, self._segment, {}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        if place.shared_memory != shared_memory_id():
            raise TransportError(
                f"{self._node} and {peer} see different /dev/shm: transport shared_memory needs one host, and one IPC "
                "namespace"
            )
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
        known = self._peers.get(peer)
        if known is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        fd, num_bytes = known
        merged = batch.merged()
        merged.check_within(len(self._view), num_bytes, f"{self._node} and {peer}")
        ranges = zip(merged.local.tolist(), merged.remote.tolist(), merged.nbytes.tolist(), strict=True)
        for local, remote, nbytes in ranges:
            try:
                moved = move(fd, self._view[local : local + nbytes], remote)
            except OSError as error:
                raise TransportError(f"copy between {self._node} and {peer} failed: {error.strerror}") from error
            if moved != nbytes:
                raise TransportError(f"copy between {self._node} and {peer} ended after {moved} of {nbytes} bytes")

    def close(self) -> None:
        for fd, _ in self._peers.values():
            os.close(fd)
        self._peers.clear()
