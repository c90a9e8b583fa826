"""NIXL between the pools of two nodes, one-sided: RDMA where UCX finds it, else its own protocol over TCP."""

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
    long, the agent here is ended: copies with other peers fail from then on, too.
    """

    name = "nixl"
    inline_bytes = 0

    def __init__(self, node: str, segment: Segment, device: str | None = None, limit_s: float = _COPY_S) -> None:
        """Args:   device: network device as UCX names it, ``eth0`` or ``mlx5_0:1``; limit_s: of a batch.
        Raises: ConfigError naming ``transport`` when NIXL is missing.
        """
        self._node, self._segment, self._limit_s = node, segment, limit_s
        self._places: dict[str, Place] = {}  # of the peers that were reached
        try:
            self._pool = NixlPool(node, segment.bytes, device)
        except (NixlMissingError, NixlFailedError) as error:
            raise ConfigError(f"transport: {node} cannot use nixl: {error}") from error

    def describe(self) -> bytes:
        pool = self._pool
        more = {"agent": pool.name, "metadata": b64encode(pool.metadata).decode(), "address": pool.address}
        return Place.of(self._node, self._segment, more).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        try:
            self._pool.reach(place.more["agent"], b64decode(place.more["metadata"]), place.more["address"])
        except NixlFailedError as error:
            raise TransportError(f"{self._node} cannot reach {peer}: {error}") from error
        self._places[peer] = place

    def try_read(self, peer: str, nbytes: int) -> None:
        """Read the start of a peer's pool into none of this node's. Copies with others go on when it fails."""
        place = self._places[peer]
        try:
            self._pool.try_read(place.more["agent"], place.more["address"], nbytes)
        except NixlFailedError as error:
            raise TransportError(f"trial copy between {self._node} and {peer} failed: {error}") from error

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
        pool = self._pool
        at = merged.local + pool.address, merged.remote + place.more["address"]
        try:
            pool.copy(operation, place.more["agent"], at, merged.nbytes, self._limit_s)
        except NixlFailedError as error:
            if isinstance(error, NixlUnendedError):
                pool.end()
            raise TransportError(f"copy between {self._node} and {peer} failed: {error}") from error

    def close(self) -> None:
        self._pool.end()
