"""Links between engines and traffic managers, and between traffic managers: framed messages over sockets.

Blocking and ordered; the end of the stream is the proof that the process behind it is gone. An engine is on the host of
its traffic manager: a Unix socket. Two traffic managers need not be: TCP.
"""

import hmac
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.tcp_server import HELLO_S, TcpServer, end, make_ready
from dualpath_ray.kv.segment import PREFIX, SHM_DIR
from dualpath_ray.traffic.messages import Hello, decode, encode

_LENGTH = struct.Struct("<I")
_TOKEN_BYTES = 32
_GREETING = struct.Struct(f"<8s{_TOKEN_BYTES}s")  # the first bytes over TCP: magic, token
_MAGIC = b"DPLINK01"
_CONNECT_S = 10.0
_MOST_BYTES = 1 << 30  # of a message: a length above is none, and must not be allocated


@dataclass(frozen=True, slots=True)
class LinkAt:
    """Where a traffic manager waits for others, and the secret that proves one to be of its system."""

    host: str
    port: int
    token: bytes


def link_path(system: str, node: str) -> Path:
    """Where a node's traffic manager listens."""
    return SHM_DIR / f"{PREFIX}.{system}.{node}.sock"


class Link:
    """One end of a link. ``send`` may be called from any thread, ``receive`` from one."""

    def __init__(self, sock: socket.socket, at: str, name: str = "a stranger") -> None:
        """Args: at: where the traffic manager listens; name: of who dialled, for errors at both ends."""
        self._socket, self._at, self._name = sock, at, name
        self._reader = sock.makefile("rb")
        self._lock = threading.Lock()

    @classmethod
    def dial(cls, path: Path, name: str, timeout_s: float = 10.0) -> "Link":
        """Connect to a traffic manager and say who we are.

        Raises: TransportError when nobody listens there in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(str(path))
                break
            except OSError as error:
                sock.close()
                if time.monotonic() > deadline:
                    raise TransportError(
                        f"{name} cannot reach the traffic manager at {path}: {error.strerror}"
                    ) from error
                time.sleep(0.05)
        return cls(sock, str(path), name)._introduced()

    @classmethod
    def dial_node(cls, at: LinkAt, name: str) -> "Link":
        """Connect to the traffic manager of another node.

        Raises: TransportError when nobody listens there.
        """
        sock = None
        try:
            sock = socket.create_connection((at.host, at.port), _CONNECT_S)
            make_ready(sock, None)
            sock.sendall(_GREETING.pack(_MAGIC, at.token))
        except OSError as error:
            if sock is not None:
                sock.close()
            raise TransportError(
                f"{name} cannot reach the traffic manager at {at.host}:{at.port}: {error.strerror or error}"
            ) from error
        return cls(sock, f"{at.host}:{at.port}", name)._introduced()

    def _introduced(self) -> "Link":
        try:
            self.send(Hello(self._name))
        except TransportError:
            self.close()
            raise
        return self

    def send(self, message: Any) -> None:
        """Raises: TransportError when the other end is gone."""
        data = encode(message)
        try:
            with self._lock:
                self._socket.sendall(_LENGTH.pack(len(data)) + data)
        except OSError as error:
            raise TransportError(
                f"the link between {self._name} and the traffic manager at {self._at} broke while sending "
                f"{type(message).__name__}: {error.strerror}"
            ) from error

    def receive(self) -> Any | None:
        """The next message; None when the other end is gone, or sends what is no message and is as good as gone."""
        try:
            header = self._reader.read(_LENGTH.size)
            if len(header) < _LENGTH.size:
                return None
            nbytes = _LENGTH.unpack(header)[0]
            if nbytes > _MOST_BYTES:
                return None
            body = self._reader.read(nbytes)
            return decode(body) if len(body) == nbytes else None
        except (OSError, ValueError, TypeError):  # closed here meanwhile; or nothing that ``decode`` knows
            return None

    def receive_hello(self) -> Hello | None:
        """The first message, for which the other end has little time; None when it is no Hello."""
        self._socket.settimeout(HELLO_S)
        hello = self.receive()
        if not isinstance(hello, Hello):
            return None
        self._socket.settimeout(None)  # a node may be silent for as long as it likes
        self._name = hello.name
        return hello

    def close(self) -> None:
        """Wakes up whoever sends or receives on it, and gives its descriptor back."""
        end(self._socket)
        with self._lock:
            self._socket.close()
            self._reader.close()  # else the descriptor stays for as long as somebody refers to the link


def read_all(link: Link, on_message: Callable[[Any], None], on_end: Callable[[], None], name: str) -> threading.Thread:
    """Start the thread that hands every message on, and tells when the other end is gone."""

    def run() -> None:
        try:
            while (message := link.receive()) is not None:
                on_message(message)
        finally:  # whatever ends it, those who wait for the other end must hear of it
            link.close()
            on_end()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


class NodeListener:
    """Accepts the links of other nodes' traffic managers at ``at``."""

    def __init__(self, host: str, on_link: Callable[[str, Link], threading.Thread]) -> None:
        """Args: on_link: gets the name from the Hello and the link; returns the thread that reads it.

        Raises: OSError when ``host`` is no address of this machine.
        """
        self._on_link = on_link
        self._server = TcpServer(host, "node-links", self._serve)
        self.at = LinkAt(host, self._server.port, secrets.token_bytes(_TOKEN_BYTES))

    def _serve(self, connection: socket.socket) -> None:
        greeting = connection.recv(_GREETING.size, socket.MSG_WAITALL)
        if len(greeting) < _GREETING.size:
            return
        magic, token = _GREETING.unpack(greeting)
        if magic != _MAGIC or not hmac.compare_digest(token, self.at.token):
            return  # a stranger is told nothing
        link = Link(connection, f"{self.at.host}:{self.at.port}")
        hello = link.receive_hello()
        if hello is not None:
            self._on_link(hello.name, link).join()
        link.close()

    def close(self) -> None:
        """Every link that was accepted ends."""
        self._server.close()


def listen(path: Path, on_link: Callable[[str, Link], None]) -> socket.socket:
    """Accept links at ``path``; ``on_link`` gets the name from the Hello and the link, on the link's own thread."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(64)

    def greet(sock: socket.socket) -> None:
        link = Link(sock, str(path))
        hello = link.receive_hello()
        if hello is not None:
            on_link(hello.name, link)
        else:
            link.close()

    def run() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return  # closed: the traffic manager stops
            threading.Thread(target=greet, args=(sock,), daemon=True).start()

    threading.Thread(target=run, name="link-accept", daemon=True).start()
    return server
