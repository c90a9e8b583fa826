"""TCP between the pools of two nodes: the kernel takes the bytes from one pool and puts them into the other.

The node that drives a copy asks; a thread of the other node, one a connection, answers out of its pool or into it. Each
thread that copies has connections of its own, so copies run side by side.
"""

import hmac
import secrets
import socket
import struct
import threading
from collections.abc import Mapping

import numpy as np

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.tcp_server import TcpServer, end, make_ready
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import CopyBatch

_HELLO = struct.Struct("<8s32sB")  # magic, token, type of service of the connection's packets
_MAGIC = b"DPPOOL02"
_REQUEST = struct.Struct("<BI")  # what, number of ranges; then int64 [ranges, 2]: offset in the answering pool, bytes
_READ, _WRITE = 1, 2
_DONE = b"\x01"
_VIEWS = 512  # ranges of one system call; the kernel takes 1024
_CONNECT_S, _ANSWER_S = 10.0, 60.0


class SocketTransport:
    """Adapter for nodes that reach one another by IP."""

    name = "sockets"
    inline_bytes = 0

    def __init__(
        self,
        node: str,
        segment: Segment,
        address: str = "127.0.0.1",
        tos: Mapping[TrafficClass, int] | None = None,
    ) -> None:
        """Args: address: of the compute NIC that the bytes go over; tos: type of service of each class's packets."""
        self._node, self._segment, self._address, self._tos = node, segment, address, dict(tos or {})
        self._view = memoryview(segment.mapping)
        self._token = secrets.token_bytes(32)
        self._places: dict[str, Place] = {}
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, str] = {}  # to which peer
        self._closed = False
        self._server = TcpServer(address, "pool-server", self._serve)

    def describe(self) -> bytes:
        more = {"host": self._address, "port": self._server.port, "token": self._token.hex()}
        return Place.of(self._node, self._segment, more).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        self._places[peer] = place
        self._connection(peer, self._tos.get(TrafficClass.KV_CACHE, 0))

    def read(self, peer: str, batch: CopyBatch) -> None:
        self.copy_as(TrafficClass.KV_CACHE, peer, batch, write=False)

    def write(self, peer: str, batch: CopyBatch) -> None:
        self.copy_as(TrafficClass.KV_CACHE, peer, batch, write=True)

    def copy_as(self, traffic_class: TrafficClass, peer: str, batch: CopyBatch, write: bool) -> None:
        """Packets of both ends carry the DSCP of the class."""
        tos = self._tos.get(traffic_class, 0)
        connection = self._connection(peer, tos)
        merged = batch.merged()
        if not merged.total_bytes:
            return
        merged.check_within(len(self._view), self._places[peer].num_bytes, f"{self._node} and {peer}")
        try:
            self._ask(connection, _WRITE if write else _READ, merged)
            views = self._views(merged.local, merged.nbytes)
            if write:
                _send(connection, views)
                views = [memoryview(bytearray(len(_DONE)))]
            _receive(connection, views)
        except OSError as error:
            self._drop(peer, tos, connection)
            raise TransportError(f"copy between {self._node} and {peer} failed: {error.strerror or error}") from error

    def disconnect(self, peer: str) -> None:
        self._places.pop(peer, None)
        with self._lock:
            for connection in [each for each, to in self._open.items() if to == peer]:
                del self._open[connection]
                end(connection)
                connection.close()

    def close(self) -> None:
        self._server.close()
        with self._lock:
            self._closed = True
            for connection in self._open:
                end(connection)
                connection.close()
            self._open.clear()

    # the node that drives --------------------------------------------------------------------------------------------

    def _ask(self, connection: socket.socket, what: int, batch: CopyBatch) -> None:
        ranges = np.stack([batch.remote, batch.nbytes], axis=1).astype("<i8")
        connection.sendall(_REQUEST.pack(what, len(ranges)) + ranges.tobytes())

    def _connection(self, peer: str, tos: int) -> socket.socket:
        """This thread's to a peer. Raises: TransportError naming both ends."""
        mine: dict[tuple[str, int], socket.socket] = self._mine.__dict__.setdefault("connections", {})
        known = mine.get((peer, tos))
        if known in self._open:  # else it was closed when the peer left
            return known
        place = self._places.get(peer)
        if place is None:
            raise TransportError(f"{self._node} is not connected to {peer}")
        where = f"{place.more['host']}:{place.more['port']}"
        try:
            made = socket.create_connection((place.more["host"], place.more["port"]), _CONNECT_S, (self._address, 0))
        except OSError as error:
            raise TransportError(f"{self._node} cannot reach {peer} at {where}: {error.strerror or error}") from error
        try:
            make_ready(made, _ANSWER_S)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            made.sendall(_HELLO.pack(_MAGIC, bytes.fromhex(place.more["token"]), tos))
            _receive(made, [memoryview(bytearray(len(_DONE)))])
        except OSError as error:
            made.close()
            raise TransportError(f"{self._node} cannot reach {peer} at {where}: {error.strerror or error}") from error
        with self._lock:
            if not self._closed:
                self._open[made] = peer
                mine[peer, tos] = made
                return made
        made.close()
        raise TransportError(f"{self._node} cannot reach {peer} at {where}: this end was closed")

    def _drop(self, peer: str, tos: int, connection: socket.socket) -> None:
        self._mine.connections.pop((peer, tos), None)
        with self._lock:
            self._open.pop(connection, None)
        connection.close()

    # the node that answers -------------------------------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        """Until the peer closes. Raises: OSError when it goes away in the middle."""
        hello = bytearray(_HELLO.size)
        _receive(connection, [memoryview(hello)[: len(_MAGIC)]])
        if not hello.startswith(_MAGIC):
            return  # of another version, or a stranger
        _receive(connection, [memoryview(hello)[len(_MAGIC) :]])
        magic, token, tos = _HELLO.unpack(hello)
        if magic != _MAGIC or not hmac.compare_digest(token, self._token):
            return  # a stranger is told nothing
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)  # what is read goes out here
        connection.sendall(_DONE)
        connection.settimeout(None)  # a peer may be silent for as long as it likes
        request = bytearray(_REQUEST.size)
        while True:
            _receive(connection, [memoryview(request)])
            what, count = _REQUEST.unpack(request)
            raw = bytearray(16 * count)
            _receive(connection, [memoryview(raw)])
            ranges = np.frombuffer(raw, "<i8").reshape(count, 2)
            ends = ranges.sum(axis=1)
            if count and (ranges.min() < 0 or ends.max() > len(self._view)):
                return  # past the pool's end: closing is what the peer hears of
            views = self._views(ranges[:, 0], ranges[:, 1])
            if what == _READ:
                _send(connection, views)
            else:
                _receive(connection, views)
                connection.sendall(_DONE)

    def _views(self, offsets: np.ndarray, sizes: np.ndarray) -> list[memoryview]:
        view = self._view
        return [view[at : at + size] for at, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]


def _send(connection: socket.socket, views: list[memoryview]) -> None:
    """All of the views, from where they stand."""
    at = 0
    while at < len(views):
        sent = connection.sendmsg(views[at : at + _VIEWS])
        at = _advance(views, at, sent)


def _receive(connection: socket.socket, views: list[memoryview]) -> None:
    """Fill the views, where they stand. Raises: ConnectionError when the other end closes before."""
    at = 0
    while at < len(views):
        got = connection.recvmsg_into(views[at : at + _VIEWS])[0]
        if got == 0:
            raise ConnectionError("the other end closed the connection")
        at = _advance(views, at, got)


def _advance(views: list[memoryview], at: int, done: int) -> int:
    """Index of the first view that is not through, cut to what is left of it."""
    while at < len(views) and done >= len(views[at]):
        done -= len(views[at])
        at += 1
    if done:
        views[at] = views[at][done:]
    return at
