"""Traffic between two nodes of a lab: ``sink`` takes it, ``send`` fills a lane, ``ping`` measures round trips in one.

flow.py sink ADDRESS PORT
flow.py send ADDRESS PORT TOS SECONDS [BYTES_PER_S]
flow.py ping ADDRESS PORT TOS COUNT        prints the median in seconds
"""

import socket
import statistics
import sys
import threading
import time

_BLOCK = 256 << 10
_SMALL = 4096


def sink(address: str, port: int) -> None:
    """Discard what comes; who begins with b"P" gets each small message back, in its own lane."""
    server = socket.create_server((address, port), backlog=16)
    print("ready", flush=True)
    while True:
        threading.Thread(target=_serve, args=(server.accept()[0],), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    buffer, kind = bytearray(_BLOCK), connection.recv(2)
    if kind[:1] != b"P":
        while connection.recv_into(buffer):
            pass
        return
    _mark(connection, kind[1])
    while _exactly(connection, buffer):
        connection.sendall(memoryview(buffer)[:_SMALL])


def _exactly(connection: socket.socket, buffer: bytearray) -> bool:
    """A small message. False at the end."""
    got = 0
    while got < _SMALL:
        more = connection.recv_into(memoryview(buffer)[got:_SMALL])
        if not more:
            return False
        got += more
    return True


def _mark(connection: socket.socket, tos: int) -> None:
    connection.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _dial(address: str, port: int, tos: int, kind: bytes) -> socket.socket:
    connection = socket.socket()
    _mark(connection, tos)
    connection.connect((address, port))
    connection.sendall(kind + bytes([tos]))
    return connection


def send(address: str, port: int, tos: int, seconds: float, bytes_per_s: float) -> None:
    """As fast as it goes, or at a rate on an absolute schedule."""
    connection, block = _dial(address, port, tos, b"S"), bytes(_BLOCK)
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        connection.sendall(block)
        sent += _BLOCK
        if bytes_per_s:
            time.sleep(max(0.0, began + sent / bytes_per_s - time.monotonic()))


def ping(address: str, port: int, tos: int, count: int) -> float:
    connection, message, buffer = _dial(address, port, tos, b"P"), bytes(_SMALL), bytearray(_SMALL)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        connection.sendall(message)
        _exactly(connection, buffer)
        times.append(time.perf_counter() - began)
        time.sleep(0.001)
    return statistics.median(times)


if __name__ == "__main__":
    what, where, at, *rest = sys.argv[1:]
    if what == "sink":
        sink(where, int(at))
    elif what == "send":
        send(where, int(at), int(rest[0]), float(rest[1]), float(rest[2]) if rest[2:] else 0.0)
    else:
        print(ping(where, int(at), int(rest[0]), int(rest[1])))
