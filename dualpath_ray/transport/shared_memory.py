"""Shared memory between the pools of two nodes on one host.

The peer's segment is reached through its file descriptor, as RDMA reaches registered memory: one copy from or to this
node's pool, and no process of this node maps the peer's memory.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

from dualpath_ray.base.errors import LayoutError, TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.port import CopyBatch


class SharedMemoryTransport:
    """Adapter for nodes that share one /dev/shm."""

    name = "shared_memory"
    inline_bytes = 1 << 20

    def __init__(self, node: str, segment: Segment) -> None:
        self._node, self._segment = node, segment
        self._view = memoryview(segment.mapping)
        self._peers: dict[str, int] = {}

    def describe(self) -> bytes:
        return f"{socket.gethostname()}\n{self._segment.path}\n{self._segment.layout.shape}".encode()

    def connect(self, peer: str, description: bytes) -> None:
        host, path, shape = description.decode().split("\n")
        if host != socket.gethostname():
            raise TransportError(
                f"{self._node} runs on {socket.gethostname()} and {peer} on {host}: transport shared_memory needs one host"
            )
        if shape != str(self._segment.layout.shape):
            raise LayoutError(f"{self._node} holds blocks {self._segment.layout.shape} and {peer} {shape}")
        try:
            self._peers[peer] = os.open(Path(path), os.O_RDWR)
        except OSError as error:
            raise TransportError(f"{self._node} cannot open the pool of {peer}: {error.strerror}") from error

    def read(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, lambda fd, view, offset: os.preadv(fd, [view], offset))

    def write(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, lambda fd, view, offset: os.pwritev(fd, [view], offset))

    def _copy(self, peer: str, batch: CopyBatch, move: Callable[[int, memoryview, int], int]) -> None:
        fd = self._peers.get(peer)
        if fd is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        merged = batch.merged()
        ranges = zip(merged.local.tolist(), merged.remote.tolist(), merged.nbytes.tolist(), strict=True)
        for local, remote, nbytes in ranges:
            try:
                moved = move(fd, self._view[local : local + nbytes], remote)
            except OSError as error:
                raise TransportError(f"copy between {self._node} and {peer} failed: {error.strerror}") from error
            if moved != nbytes:
                raise TransportError(f"copy between {self._node} and {peer} ended after {moved} of {nbytes} bytes")

    def close(self) -> None:
        for fd in self._peers.values():
            os.close(fd)
        self._peers.clear()
