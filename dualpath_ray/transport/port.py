"""The Transport port: one-sided copies between this node's segment and a peer's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.types import TrafficClass


@dataclass(frozen=True, slots=True)
class CopyBatch:
    """Ranges to copy between two segments, as offsets from the start of each: one object per batch and layer.

    ``local``, ``remote``, ``nbytes``: int64 [num_ranges].
    """

    local: np.ndarray
    remote: np.ndarray
    nbytes: np.ndarray

    @property
    def total_bytes(self) -> int:
        return int(self.nbytes.sum())

    def check_within(self, local_bytes: int, remote_bytes: int, between: str) -> None:
        """Args: local_bytes, remote_bytes: of the two segments; between: names both ends.

        Raises: TransportError when a range is not within its segment.
        """
        for offsets, size in ((self.local, local_bytes), (self.remote, remote_bytes)):
            if len(offsets) and (offsets.min() < 0 or int((offsets + self.nbytes).max()) > size):
                raise TransportError(f"copy between {between} failed: it reaches past a pool's end")

    def merged(self) -> "CopyBatch":
        """The same copy with neighbours joined and empty ranges left out: fewer and larger ranges."""
        some = self.nbytes > 0
        if not some.all():
            return CopyBatch(self.local[some], self.remote[some], self.nbytes[some]).merged()
        if len(self.nbytes) < 2:
            return self
        joins = (self.local[1:] == self.local[:-1] + self.nbytes[:-1]) & (
            self.remote[1:] == self.remote[:-1] + self.nbytes[:-1]
        )
        starts = np.flatnonzero(np.concatenate(([True], ~joins)))
        return CopyBatch(self.local[starts], self.remote[starts], np.add.reduceat(self.nbytes, starts))


class Transport(Protocol):
    """Moves bytes between pools. Calls block; a call that returns has moved every byte.

    They run in worker threads, but for batches of up to ``inline_bytes``: a copy that takes less time than waking a thread
    runs on the one that decides. 0 where a call may wait for anything but memory.

    Every method raises TransportError naming the peer when the peer or the link failed.
    """

    name: str

    @property
    def inline_bytes(self) -> int: ...

    def describe(self) -> bytes:
        """What a peer needs to reach this node's pool; carried to it by the control plane."""
        ...

    def connect(self, peer: str, description: bytes) -> None:
        """Make a peer's pool reachable.

        Raises: LayoutError when the two pools hold blocks of different layouts.
        """
        ...

    def read(self, peer: str, batch: CopyBatch) -> None:
        """Peer's pool to this node's pool."""
        ...

    def write(self, peer: str, batch: CopyBatch) -> None:
        """This node's pool to the peer's pool."""
        ...

    def disconnect(self, peer: str) -> None:
        """Let go of a peer that leaves, and of its pool's memory. No copy with it is under way; it may come back."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ClassedTransport(Transport, Protocol):
    """A Transport whose copies the network can tell apart by what they are for (section 5)."""

    def copy_as(self, traffic_class: TrafficClass, peer: str, batch: CopyBatch, write: bool) -> None:
        """``read`` or ``write``, marked as of this class. Without a mark a copy is of ``kv_cache``."""
        ...


CopyAs = Callable[[TrafficClass, str, CopyBatch, bool], None]


def copier(transport: Transport) -> CopyAs:
    """``copy_as`` of a transport, or the like of it where the transport cannot mark its copies.

    Asked once: looking whether an object has a protocol's methods takes as long as copying 100 KiB.
    """
    if isinstance(transport, ClassedTransport):
        return transport.copy_as

    def unmarked(traffic_class: TrafficClass, peer: str, batch: CopyBatch, write: bool) -> None:
        (transport.write if write else transport.read)(peer, batch)

    return unmarked


AskPeer = Callable[..., Any]
"""Runs ``help`` of a peer's transport in its traffic manager; takes the same arguments, returns a reference of Ray's."""


@runtime_checkable
class TwoSidedTransport(Transport, Protocol):
    """A Transport whose copies need the other end: who drives one asks the peer's traffic manager to take part."""

    def help(self, *request: Any) -> Any:
        """This node's part of a copy that a peer drives. Args: request: as the adapter's own calls give it."""
        ...
