"""A TCP server with a thread for each connection, all of which end when it closes."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable

HELLO_S = 10.0  # for a stranger to say who it is
_POLL_S = 0.05  # in which closing is noticed
_SILENT_MS = 60_000  # a peer whose host has died is noticed after this


class TcpServer:
    """Listens on a free port; ``serve`` gets each connection, on a thread of its own, until it returns or raises."""

    def __init__(self, host: str, name: str, serve: Callable[[socket.socket], None]) -> None:
        """Raises: OSError when ``host`` is no address of this machine."""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                server._handle(self.request, serve)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """A peer that goes away in the middle is noticed where it is missed."""

        self._server = Server((host, 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name=name, daemon=True).start()

    def _handle(self, connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with self._lock:
            if self._closed:
                return
            self._open.add(connection)
        try:
            make_ready(connection, HELLO_S)
            serve(connection)
        finally:
            with self._lock:
                self._open.discard(connection)

    def close(self) -> None:
        """Serve nobody any more, whoever is in the middle included."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            self._closed = True
            for connection in self._open:
                end(connection)


def make_ready(connection: socket.socket, timeout_s: float | None) -> None:
    """Small messages go at once; a dead host is noticed. Args: timeout_s: of each wait, None for no limit."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
    connection.settimeout(timeout_s)


def end(connection: socket.socket) -> None:
    """Wake up whoever waits on it, in this process too."""
    with contextlib.suppress(OSError):  # the other end was first
        connection.shutdown(socket.SHUT_RDWR)
