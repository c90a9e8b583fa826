"""Serves a store's blocks over sockets, for readers that cannot open its files. Runs in its storage node."""

import hmac
import mmap
import secrets
import socket

import numpy as np

from dualpath_ray.base.errors import BlockNotFoundError, DualPathError, StoreFullError, UnendedReadError
from dualpath_ray.base.tcp_server import TcpServer
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage import wire
from dualpath_ray.storage.port import BlockStore


class BlockServer:
    """A thread a connection, each with one slot: a reader opens as many connections as it has reads in flight."""

    def __init__(self, store: BlockStore, layout: KvLayout, host: str) -> None:
        """Listens on a free port of ``host``. Raises: OSError."""
        token = secrets.token_bytes(wire.TOKEN_BYTES)
        self._server = TcpServer(host, "block-server", lambda connection: serve(connection, store, layout, token))
        self.at = wire.ServedAt(host, self._server.port, token)

    def close(self) -> None:
        """Serve nobody any more."""
        self._server.close()


def serve(connection: socket.socket, store: BlockStore, layout: KvLayout, token: bytes) -> None:
    """Answer one reader until it closes. Raises: OSError when it goes away in the middle."""
    if not _accept(connection, layout, token):
        return
    connection.settimeout(None)  # a reader may be silent for as long as it likes
    slot = np.frombuffer(mmap.mmap(-1, layout.slot_bytes), np.uint8)  # on a page, as direct I/O wants it
    request = bytearray(wire.REQUEST.size)
    while wire.receive(connection, memoryview(request)):
        what, key = wire.REQUEST.unpack(request)
        if what == wire.WRITE and not wire.receive(connection, slot.data):
            return
        try:
            (store.write if what == wire.WRITE else store.read)(key, slot)
        except UnendedReadError as error:
            _say(connection, wire.FAILED, error)
            return  # the next reader's connection has another slot
        except BlockNotFoundError:
            connection.sendall(wire.ANSWER.pack(wire.NOT_FOUND, 0))
        except Exception as error:  # a store of the user's own may raise anything
            _say(connection, wire.FULL if isinstance(error, StoreFullError) else wire.FAILED, error)
        else:
            connection.sendall(wire.ANSWER.pack(wire.OK, 0 if what == wire.WRITE else len(slot)))
            if what == wire.READ:
                connection.sendall(slot.data)


def _accept(connection: socket.socket, layout: KvLayout, token: bytes) -> bool:
    raw = bytearray(wire.HELLO.size)
    if not wire.receive(connection, memoryview(raw)):
        return False
    magic, given, *shape = wire.HELLO.unpack(raw)
    if magic != wire.MAGIC or not hmac.compare_digest(given, token):
        return False  # a stranger is told nothing
    if tuple(shape) != layout.shape:
        _say(connection, wire.REFUSED, DualPathError(f"it holds blocks {layout.shape}"))
        return False
    connection.sendall(wire.ANSWER.pack(wire.OK, 0))
    return True


def _say(connection: socket.socket, status: int, error: Exception) -> None:
    text = str(error).encode()[:1000]
    connection.sendall(wire.ANSWER.pack(status, len(text)) + text)
