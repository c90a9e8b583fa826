"""Shared memory between the pools of two nodes on one host.

The traffic manager maps the peer's pool and copies once, as an RDMA NIC that has registered it would. The engines of its
node do not: to them the other pool does not exist.
"""

import ctypes
import mmap
import os
from dataclasses import dataclass

import numpy as np

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.memory import address_of
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place, shared_memory_id
from dualpath_ray.transport.port import CopyBatch


@dataclass(frozen=True, slots=True)
class _Mapped:
    """A peer's pool in this process."""

    pool: np.ndarray
    address: int
    num_bytes: int


class SharedMemoryTransport:
    """Adapter for nodes that share one /dev/shm."""

    name = "shared_memory"
    inline_bytes = 1 << 20

    def __init__(self, node: str, segment: Segment) -> None:
        self._node, self._segment = node, segment
        self._address = address_of(segment.bytes)
        self._peers: dict[str, _Mapped] = {}

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
            fd = os.open(place.path, os.O_RDWR)
            try:
                pool = np.frombuffer(mmap.mmap(fd, place.num_bytes), np.uint8)
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:  # mmap refuses a file that is shorter than was said
            reason = error.strerror if isinstance(error, OSError) else error
            raise TransportError(f"{self._node} cannot open the pool of {peer}: {reason}") from error
        self._peers[peer] = _Mapped(pool, address_of(pool), place.num_bytes)

    def read(self, peer: str, batch: CopyBatch) -> None:
        known, merged = self._checked(peer, batch)
        _copy(merged.local + self._address, merged.remote + known.address, merged.nbytes)

    def write(self, peer: str, batch: CopyBatch) -> None:
        known, merged = self._checked(peer, batch)
        _copy(merged.remote + known.address, merged.local + self._address, merged.nbytes)

    def _checked(self, peer: str, batch: CopyBatch) -> tuple[_Mapped, CopyBatch]:
        """The peer's pool, and the batch, which is within both."""
        known = self._peers.get(peer)
        if known is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        merged = batch.merged()
        merged.check_within(len(self._segment.bytes), known.num_bytes, f"{self._node} and {peer}")
        return known, merged

    def disconnect(self, peer: str) -> None:
        self._peers.pop(peer, None)

    def close(self) -> None:
        self._peers.clear()  # the mapping ends with its last copy


def _copy(to: np.ndarray, of: np.ndarray, sizes: np.ndarray) -> None:
    """Args: addresses and bytes, int64 [ranges]. Other threads run meanwhile."""
    for target, source, nbytes in zip(to.tolist(), of.tolist(), sizes.tolist(), strict=True):
        ctypes.memmove(target, source, nbytes)
