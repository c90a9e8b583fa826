"""A store whose files this process cannot open: its storage node reads and writes them, over a socket."""

import socket
import threading
from collections.abc import Iterator

import numpy as np

from dualpath_ray.base.errors import BlockNotFoundError, LayoutError, StorageError, StoreFullError
from dualpath_ray.base.tcp_server import end, make_ready
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader
from dualpath_ray.storage import wire
from dualpath_ray.storage.port import check_slot

_CONNECT_S = 10.0
_ANSWER_S = 60.0  # a storage node that says nothing for so long is gone


class ServedBlockStore:
    """Reads straight into the slot and writes straight from it. Each thread has a connection of its own."""

    def __init__(self, at: wire.ServedAt, layout: KvLayout, reader: str, address: str | None = None) -> None:
        """Args: reader: who reads, for errors; address: of the storage NIC that the bytes go over; None: any."""
        self._source = (address, 0) if address else None
        self.name = f"storage node at {at.host}:{at.port}"
        self._at, self._layout, self._reader = at, layout, reader
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Any memory will do."""

    def read(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.read."""
        check_slot(slot, self._layout)
        self._ask(wire.READ, key, slot)

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.write."""
        check_slot(slot, self._layout)
        self._ask(wire.WRITE, key, slot)

    def delete(self, key: bytes) -> None:
        """Raises: StorageError: only its owner deletes."""
        raise StorageError(f"only the {self.name} itself deletes its blocks")

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        """Raises: StorageError: only its owner scans."""
        raise StorageError(f"only the {self.name} itself scans its blocks")

    def check(self) -> None:
        """See BlockStore.check. Raises: LayoutError when the two ends hold blocks of different layouts."""
        self._connection()

    def identity(self) -> str:
        """See BlockStore.identity."""
        return self.name

    def close(self) -> None:
        """See BlockStore.close."""
        with self._lock:
            for connection in self._open:
                end(connection)
                connection.close()
            self._open.clear()

    def _ask(self, what: int, key: bytes, slot: np.ndarray) -> None:
        known = getattr(self._mine, "connection", None) is not None
        try:
            self._ask_once(what, key, slot)
        except OSError as error:
            self._drop()
            if not known or isinstance(error, TimeoutError):  # it may be at it still: a second one would not help
                raise StorageError(self._lost(error)) from error
            try:  # the connection was of an earlier life of the storage node, or idle for too long
                self._ask_once(what, key, slot)
            except OSError as again:
                self._drop()
                raise StorageError(self._lost(again)) from again

    def _ask_once(self, what: int, key: bytes, slot: np.ndarray) -> None:
        connection = self._connection()
        connection.sendall(wire.REQUEST.pack(what, key))
        if what == wire.WRITE:
            connection.sendall(slot.data)
        status, nbytes = self._answer(connection)
        if status == wire.OK:
            if what == wire.READ and (nbytes != len(slot) or not wire.receive(connection, slot.data)):
                raise ConnectionError(f"it answered with {nbytes} bytes")
            return
        if status == wire.NOT_FOUND:
            raise BlockNotFoundError(key.hex()[:16], self.name)
        text = bytearray(nbytes)
        wire.receive(connection, memoryview(text))
        kind = StoreFullError if status == wire.FULL else StorageError
        raise kind(f"{self.name}: {text.decode(errors='replace')}")

    def _answer(self, connection: socket.socket) -> tuple[int, int]:
        raw = bytearray(wire.ANSWER.size)
        if not wire.receive(connection, memoryview(raw)):
            raise ConnectionError("it closed the connection")
        status, nbytes = wire.ANSWER.unpack(raw)
        return status, nbytes

    def _connection(self) -> socket.socket:
        """This thread's. Raises: StorageError, LayoutError naming both ends."""
        mine: socket.socket | None = getattr(self._mine, "connection", None)
        if mine is not None:
            return mine
        try:
            made = socket.create_connection((self._at.host, self._at.port), _CONNECT_S, self._source)
        except OSError as error:
            raise StorageError(self._lost(error)) from error
        text = bytearray()
        try:
            make_ready(made, _ANSWER_S)
            made.sendall(wire.hello(self._at.token, self._layout))
            status, nbytes = self._answer(made)
            if status != wire.OK:
                text = bytearray(nbytes)
                wire.receive(made, memoryview(text))
        except OSError as error:
            made.close()
            raise StorageError(self._lost(error)) from error
        if status != wire.OK:
            made.close()
            raise LayoutError(
                f"{self._reader} reads blocks {self._layout.shape}, but the {self.name} says: {text.decode(errors='replace')}"
            )
        self._mine.connection = made
        with self._lock:
            self._open.append(made)
        return made

    def _drop(self) -> None:
        mine = getattr(self._mine, "connection", None)
        self._mine.connection = None
        if mine is not None:
            with self._lock:
                if mine in self._open:
                    self._open.remove(mine)
            mine.close()

    def _lost(self, error: OSError) -> str:
        return f"{self._reader} cannot reach the {self.name}: {error.strerror or error}"
