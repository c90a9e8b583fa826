"""``transport: auto``: for each peer the best transport that both ends have, and why it is that one."""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.nixl import NixlTransport
from dualpath_ray.transport.nixl_pool import TRIAL_BYTES
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyAs, CopyBatch, Transport, copier
from dualpath_ray.transport.shared_memory import SharedMemoryTransport
from dualpath_ray.transport.sockets import SocketTransport

_MOST_FAILURES = 2  # of NIXL that reached nobody: it takes its time to fail, and a firewall keeps it from all


@dataclass(frozen=True, slots=True)
class Choice:
    """Of a peer's transport; ``why`` is one clause for people."""

    name: str
    why: str


def choose(same_memory: bool, rates: Mapping[str, float], missing: Mapping[str, str]) -> Choice:
    """The rule, pure.

    Args:   same_memory: both ends see one /dev/shm; rates: bytes/s measured to this peer by transports that both have;
            missing: why others were not tried.
    Raises: TransportError when nothing reaches the peer.
    """
    why_not = "".join(f"; {name}: {why}" for name, why in missing.items())
    if same_memory:
        return Choice("shared_memory", "both nodes see one /dev/shm")
    if not rates:
        raise TransportError(f"no transport reaches it{why_not}")
    best = max(rates, key=lambda name: rates[name])
    measured = ", ".join(f"{name} {rate / 1e9:.2f} GB/s" for name, rate in rates.items())
    return Choice(best, f"{'the faster of ' if len(rates) > 1 else ''}{measured}{why_not}")


class AutoTransport:
    """Opens what this node can, and sends each peer's copies through what was chosen for it."""

    name = "auto"

    def __init__(
        self,
        node: str,
        segment: Segment,
        address: str = "127.0.0.1",
        device: str | None = None,
        one_host: bool = False,
        tos: Mapping[TrafficClass, int] | None = None,
        marks: Mapping[TrafficClass, Mark] | None = None,
    ) -> None:
        """Args: address, device: of the compute NIC; one_host: no peer is elsewhere, so NIXL is not even loaded; tos: as of
        SocketTransport; marks: as of NixlTransport.
        """
        self._node, self._segment = node, segment
        self._mine: dict[str, Transport] = {
            "shared_memory": SharedMemoryTransport(node, segment),
            "sockets": SocketTransport(node, segment, address, tos),
        }
        self._not_here: dict[str, str] = {}
        self._failures: list[str] = []  # of NIXL, by peer
        self._nixl_works = False  # with some peer
        if not one_host:
            try:
                self._mine["nixl"] = NixlTransport(node, segment, device, marks)
            except ConfigError as error:
                self._not_here["nixl"] = str(error.__cause__ or error)
        self._chosen: dict[str, Transport] = {}
        self._copiers: dict[str, CopyAs] = {}
        self.choices: dict[str, Choice] = {}

    @property
    def inline_bytes(self) -> int:
        return min((transport.inline_bytes for transport in self._chosen.values()), default=0)

    def describe(self) -> bytes:
        return json.dumps({name: b64encode(mine.describe()).decode() for name, mine in self._mine.items()}).encode()

    def connect(self, peer: str, description: bytes) -> None:
        theirs = {name: b64decode(text) for name, text in json.loads(description).items()}
        here = Place.unpack(self._mine["shared_memory"].describe())
        there = Place.unpack(theirs["shared_memory"])
        there.check_layout(self._node, self._segment)
        rates: dict[str, float] = {}
        missing: dict[str, str] = {}
        same_memory = here.shared_memory == there.shared_memory
        if same_memory:
            try:
                self._mine["shared_memory"].connect(peer, theirs["shared_memory"])
            except TransportError as error:  # another user's, say
                same_memory, missing["shared_memory"] = False, str(error)
        if not same_memory:
            rates, tried = self._try(peer, theirs, there.num_bytes)
            missing |= tried
        try:
            choice = choose(same_memory, rates, missing)
        except TransportError as error:
            raise TransportError(f"{self._node} cannot reach {peer}: {error}") from error
        self._copiers[peer] = copier(self._mine[choice.name])
        self._chosen[peer], self.choices[peer] = self._mine[choice.name], choice

    def _try(self, peer: str, theirs: Mapping[str, bytes], num_bytes: int) -> tuple[dict[str, float], dict[str, str]]:
        """Bytes per second of what both ends have, and why the rest has none."""
        rates: dict[str, float] = {}
        missing = {**self._not_here, **{name: f"{peer} has none" for name in self._mine if name not in theirs}}
        for name, mine in self._mine.items():
            if name == "shared_memory" or name in missing:
                continue
            try:
                mine.connect(peer, theirs[name])
                rates[name] = self._rate(mine, peer, num_bytes)
                self._nixl_works |= name == "nixl"
            except TransportError as error:
                missing[name] = str(error)
                if name == "nixl":
                    self._nixl_failed(peer)
        return rates, missing

    def _nixl_failed(self, peer: str) -> None:
        self._failures.append(peer)
        if len(self._failures) == _MOST_FAILURES and not self._nixl_works:
            self._not_here["nixl"] = f"not tried, since it failed with {' and '.join(self._failures)}"

    def _rate(self, transport: Transport, peer: str, num_bytes: int) -> float:
        """Of reading a peer's pool: into the slots here, which are empty until a system begins, but by NIXL into none, since
        its failed reads may go on."""
        start = self._segment.slots_offset
        size = min(TRIAL_BYTES, num_bytes, len(self._segment.bytes) - start)
        batch = CopyBatch(*(np.array([n], np.int64) for n in (start, 0, size)))
        if isinstance(transport, NixlTransport):
            read = partial(transport.try_read, peer, size)
        else:
            read = partial(transport.read, peer, batch)
        read()  # buffers and windows grow
        began = time.perf_counter()
        read()
        return size / (time.perf_counter() - began)

    def copy_as(self, traffic_class: TrafficClass, peer: str, batch: CopyBatch, write: bool) -> None:
        self._of(peer)  # or the error
        self._copiers[peer](traffic_class, peer, batch, write)

    def read(self, peer: str, batch: CopyBatch) -> None:
        self._of(peer).read(peer, batch)

    def write(self, peer: str, batch: CopyBatch) -> None:
        self._of(peer).write(peer, batch)

    def _of(self, peer: str) -> Transport:
        chosen = self._chosen.get(peer)
        if chosen is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        return chosen

    def disconnect(self, peer: str) -> None:
        for transport in self._mine.values():  # a trial may have left a connection of others, too
            transport.disconnect(peer)
        for known in (self._copiers, self._chosen, self.choices):
            known.pop(peer, None)

    def close(self) -> None:
        for transport in self._mine.values():
            transport.close()
