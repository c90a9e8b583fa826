"""NIXL between the pools of two nodes, one-sided: RDMA where UCX finds it, else its own protocol over TCP."""

from base64 import b64decode, b64encode
from collections.abc import Mapping

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.nixl_agent import NixlFailedError, NixlMissingError, NixlUnendedError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.nixl_pool import NixlPool
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyBatch

_COPY_S = 60.0  # the longest that a batch may take


class NixlTransport:
    """Adapter over agents that work only when they are called (``nixl_pool.py``): one for each mark, as UCX marks all packets
    of an agent alike. What is read comes from the peer's agent of that mark, so it is marked on its way, too.

    A copy that failed leaves nothing that still moves. Where NIXL cannot promise that, as for a peer that is silent for too
    long, the agents here are ended: copies with other peers fail from then on, too.
    """

    name = "nixl"
    inline_bytes = 0

    def __init__(
        self,
        node: str,
        segment: Segment,
        device: str | None = None,
        marks: Mapping[TrafficClass, Mark] | None = None,
        limit_s: float = _COPY_S,
    ) -> None:
        """Args:   device: network device as UCX names it, ``eth0`` or ``mlx5_0:1``; marks: of each class's packets;
                limit_s: of a batch.
        Raises: ConfigError naming ``transport`` when NIXL is missing.
        """
        self._node, self._segment, self._limit_s = node, segment, limit_s
        self._marks = dict(marks or {})
        self._places: dict[str, Place] = {}  # of the peers that were reached
        self._pools: dict[Mark | None, NixlPool] = {}  # that of kv_cache comes first
        try:
            for mark in dict.fromkeys((self._mark(TrafficClass.KV_CACHE), *self._marks.values())):
                self._pools[mark] = NixlPool(node, segment.bytes, device, mark)
        except (NixlMissingError, NixlFailedError) as error:
            self.close()
            raise ConfigError(f"transport: {node} cannot use nixl: {error}") from error

    def _mark(self, traffic_class: TrafficClass) -> Mark | None:
        return self._marks.get(traffic_class, self._marks.get(TrafficClass.KV_CACHE))

    def describe(self) -> bytes:
        agents = [
            {"mark": str(mark), "agent": pool.name, "metadata": b64encode(pool.metadata).decode()}
            for mark, pool in self._pools.items()
        ]
        address = self._pools[self._mark(TrafficClass.KV_CACHE)].address
        return Place.of(self._node, self._segment, {"agents": agents, "address": address}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        try:
            for mark, pool in self._pools.items():
                agent = _agent(place, mark)
                pool.reach(agent["agent"], b64decode(agent["metadata"]), place.more["address"])
        except NixlFailedError as error:
            raise TransportError(f"{self._node} cannot reach {peer}: {error}") from error
        self._places[peer] = place

    def try_read(self, peer: str, nbytes: int) -> None:
        """Read the start of a peer's pool into none of this node's. Copies with others go on when it fails."""
        place, mark = self._places[peer], self._mark(TrafficClass.KV_CACHE)
        try:
            self._pools[mark].try_read(_agent(place, mark)["agent"], place.more["address"], nbytes)
        except NixlFailedError as error:
            raise TransportError(f"trial copy between {self._node} and {peer} failed: {error}") from error

    def read(self, peer: str, batch: CopyBatch) -> None:
        self.copy_as(TrafficClass.KV_CACHE, peer, batch, write=False)

    def write(self, peer: str, batch: CopyBatch) -> None:
        self.copy_as(TrafficClass.KV_CACHE, peer, batch, write=True)

    def copy_as(self, traffic_class: TrafficClass, peer: str, batch: CopyBatch, write: bool) -> None:
        """By the agents of the class's mark at both ends."""
        place, mark = self._places.get(peer), self._mark(traffic_class)
        if place is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        merged = batch.merged()
        merged.check_within(len(self._segment.bytes), place.num_bytes, f"{self._node} and {peer}")
        if not merged.total_bytes:
            return
        pool, operation = self._pools[mark], "WRITE" if write else "READ"
        at = merged.local + pool.address, merged.remote + place.more["address"]
        try:
            pool.copy(operation, _agent(place, mark)["agent"], at, merged.nbytes, self._limit_s)
        except NixlFailedError as error:
            if isinstance(error, NixlUnendedError):
                self.close()
            raise TransportError(f"copy between {self._node} and {peer} failed: {error}") from error

    def disconnect(self, peer: str) -> None:
        place = self._places.pop(peer, None)
        if place is not None:
            for mark, pool in self._pools.items():
                pool.leave(_agent(place, mark)["agent"])

    def close(self) -> None:
        for pool in self._pools.values():
            pool.end()


def _agent(place: Place, mark: Mark | None) -> dict[str, str]:
    """The peer's agent of a mark, or that of its kv_cache where it has none of that: as on a host without RDMA."""
    agents: list[dict[str, str]] = place.more["agents"]
    return next((agent for agent in agents if agent["mark"] == str(mark)), agents[0])
