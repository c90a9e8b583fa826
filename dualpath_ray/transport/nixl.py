"""NIXL between the pools of two nodes, one-sided: RDMA where UCX finds it, else its own protocol over TCP."""

import threading
from base64 import b64decode, b64encode

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.nixl_agent import NixlFailedError, NixlMissingError, NixlUnendedError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.nixl_pool import NixlPool
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyBatch

_COPY_S = 60.0  # the longest that a batch may take


class NixlTransport:
    """Adapter over agents that work only when they are called (``nixl_pool.py``).

    A copy that failed leaves nothing that still moves. Where NIXL cannot promise that, as for a peer that is silent for too
    long, the agent here is ended for a new one: peers that copy from and to this pool must then be connected again.
    """

    name = "nixl"
    inline_bytes = 0

    def __init__(self, node: str, segment: Segment, device: str | None = None, limit_s: float = _COPY_S) -> None:
        """Args:   device: network device as UCX names it, ``eth0`` or ``mlx5_0:1``; limit_s: of a batch.
        Raises: ConfigError naming ``transport`` when NIXL is missing.
        """
        self._node, self._segment, self._device, self._limit_s = node, segment, device, limit_s
        self._lock, self._reaching = threading.Lock(), threading.Lock()
        self._closed = False
        self._places: dict[str, Place] = {}
        self._reached: dict[str, NixlPool] = {}  # each peer, and the agent that is connected to it
        self._pool = self._open()

    def _open(self) -> NixlPool:
        try:
            return NixlPool(self._node, self._segment.bytes, self._device)
        except (NixlMissingError, NixlFailedError) as error:
            raise ConfigError(f"transport: {self._node} cannot use nixl: {error}") from error

    def describe(self) -> bytes:
        pool = self._pool
        more = {"agent": pool.name, "metadata": b64encode(pool.metadata).decode(), "address": pool.address}
        return Place.of(self._node, self._segment, more).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        with self._lock:
            self._places[peer] = place
            self._reached.pop(peer, None)
        self._reach(peer)

    def read(self, peer: str, batch: CopyBatch) -> None:
        self._copy("READ", peer, batch)

    def write(self, peer: str, batch: CopyBatch) -> None:
        self._copy("WRITE", peer, batch)

    def _copy(self, operation: str, peer: str, batch: CopyBatch) -> None:
        place = self._places.get(peer)
        if place is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        merged = batch.merged()
        merged.check_within(len(self._segment.bytes), place.num_bytes, f"{self._node} and {peer}")
        if not merged.total_bytes:
            return
        pool = self._reach(peer)
        at = merged.local + pool.address, merged.remote + place.more["address"]
        try:
            pool.copy(operation, place.more["agent"], at, merged.nbytes, self._limit_s)
        except NixlFailedError as error:
            self._after(pool, error)
            raise TransportError(f"copy between {self._node} and {peer} failed: {error}") from error

    def _reach(self, peer: str) -> NixlPool:
        """The agent of now, connected to a peer."""
        pool = self._pool
        if self._reached.get(peer) is pool:
            return pool
        with self._reaching:  # connecting anew would break a copy that another thread has begun
            with self._lock:
                pool, place = self._pool, self._places[peer]
                if self._reached.get(peer) is pool:
                    return pool
            try:
                pool.reach(place.more["agent"], b64decode(place.more["metadata"]), place.more["address"])
            except NixlFailedError as error:
                raise TransportError(f"{self._node} cannot reach {peer}: {error}") from error
            self._reached[peer] = pool
            return pool

    def _after(self, pool: NixlPool, error: NixlFailedError) -> None:
        """Returns when nothing moves any more of a copy that failed."""
        if not isinstance(error, NixlUnendedError):
            return
        pool.end()
        with self._lock:
            if self._pool is pool and not self._closed:
                self._pool = self._open()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._pool.end()
