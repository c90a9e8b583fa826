"""The TCP sockets that libraries of this process have open, and a mark for those that a library cannot be told to mark."""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress


def tcp_sockets() -> set[tuple[int, int]]:
    """(descriptor, inode) of each that is connected."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError), _opened(int(name)) as opened:
            if opened.type == socket.SOCK_STREAM and opened.family in (socket.AF_INET, socket.AF_INET6):
                opened.getpeername()
                found.add((int(name), os.fstat(opened.fileno()).st_ino))
    return found


def mark(sockets: Iterable[tuple[int, int]], tos: int) -> int:
    """Set the type of service of their packets; how many there were. One that is closed meanwhile is left alone."""
    count = 0
    for descriptor, inode in sockets:
        with suppress(OSError), _opened(descriptor) as opened:
            if os.fstat(opened.fileno()).st_ino == inode:
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
                count += 1
    return count


def _opened(descriptor: int) -> socket.socket:
    """The same socket under another descriptor. Raises: OSError when it is none."""
    other = os.dup(descriptor)
    try:
        return socket.socket(fileno=other)
    except OSError:
        os.close(other)
        raise
