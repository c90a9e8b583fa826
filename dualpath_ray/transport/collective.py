"""Ray's collective groups between traffic managers: one group of them all, over gloo. For who asks for it by name.

A collective transfer needs both ends. Who drives a copy asks the other traffic manager to take part; the ranges then go
from pool to pool, each a message.
"""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import ray
from ray.util import collective

from dualpath_ray.base.errors import TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import AskPeer, CopyBatch


class CollectiveTransport:
    """Adapter over one group of all traffic managers: a node's rank is its place among all nodes."""

    name = "collective"
    inline_bytes = 0

    def __init__(
        self, node: str, segment: Segment, group: str, nodes: Sequence[str], help_of: Callable[[str], AskPeer]
    ) -> None:
        """Args: nodes: of the group, by rank; help_of: how to ask a peer."""
        self._node, self._segment, self._group, self._nodes = node, segment, group, list(nodes)
        self._help_of = help_of
        self._peers: dict[str, tuple[AskPeer, int, threading.Lock]] = {}  # with the bytes of its pool

    def describe(self) -> bytes:
        return Place.of(self._node, self._segment, {}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        """The first call of every node waits for all nodes' first calls: that is when the group comes to be."""
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        if not self._peers:
            try:
                rank = self._nodes.index(self._node)
                collective.init_collective_group(len(self._nodes), rank, "gloo", self._group)
            except Exception as error:  # of torch, of Ray
                raise TransportError(f"{self._node} cannot join the collective group: {error}") from error
        self._peers[peer] = self._help_of(peer), place.num_bytes, threading.Lock()

    def read(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, "send", self._receive)

    def write(self, peer: str, batch: CopyBatch) -> None:
        self._copy(peer, batch, "receive", self._send)

    def _copy(
        self, peer: str, batch: CopyBatch, theirs: str, mine: Callable[[str, np.ndarray, np.ndarray], None]
    ) -> None:
        if peer not in self._peers:
            raise TransportError(f"{self._node} is not connected to {peer}")
        ask, num_bytes, lock = self._peers[peer]
        merged = batch.merged()
        merged.check_within(len(self._segment.bytes), num_bytes, f"{self._node} and {peer}")
        try:
            with lock:  # messages of a pair have no names: one copy at a time
                answer = ask(theirs, self._node, merged.remote, merged.nbytes)
                mine(peer, merged.local, merged.nbytes)
                ray.get(answer)
        except Exception as error:  # of torch, of Ray
            raise TransportError(f"copy between {self._node} and {peer} failed: {error}") from error

    def help(self, what: str, peer: str, offsets: np.ndarray, sizes: np.ndarray) -> None:
        """Take part in a copy that ``peer`` drives. Args: what: send or receive."""
        (self._send if what == "send" else self._receive)(peer, offsets, sizes)

    def _send(self, peer: str, offsets: np.ndarray, sizes: np.ndarray) -> None:
        for view in self._views(offsets, sizes):
            collective.send(view, self._nodes.index(peer), self._group)

    def _receive(self, peer: str, offsets: np.ndarray, sizes: np.ndarray) -> None:
        for view in self._views(offsets, sizes):
            collective.recv(view, self._nodes.index(peer), self._group)

    def _views(self, offsets: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
        return [self._segment.bytes[at : at + size] for at, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]

    def disconnect(self, peer: str) -> None:
        """The group stays as it is: whoever comes back is none of it."""
        self._peers.pop(peer, None)

    def close(self) -> None:
        """The group ends with its processes."""
