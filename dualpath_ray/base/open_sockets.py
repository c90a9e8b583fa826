"""TCP connections that libraries of this process have open, and the type of service of their packets."""

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

_MAPPED = "::ffff:"  # before an IPv4 address of a socket that takes both kinds
Endpoint = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class Connection:
    descriptor: int
    local: Endpoint
    peer: Endpoint


def tcp_connections() -> list[Connection]:
    """Of this process."""
    found = psutil.Process().net_connections("tcp")
    return [
        Connection(each.fd, _plain(each.laddr), _plain(each.raddr)) for each in found if each.raddr and each.fd >= 0
    ]


def between(mine: Iterable[Connection], theirs: Iterable[tuple[Endpoint, Endpoint]]) -> list[Connection]:
    """Those of this process whose other end is among (local, peer) of others. Pure."""
    ends = {(peer, local) for local, peer in theirs}
    return [each for each in mine if (each.local, each.peer) in ends]


def set_tos(connection: Connection, tos: int) -> None:
    """Mark its packets. Nothing happens when it is closed meanwhile."""
    with suppress(OSError):
        if not stat.S_ISSOCK(os.stat(connection.descriptor).st_mode):
            return
        descriptor = os.dup(connection.descriptor)
        blocking = os.get_blocking(descriptor)
        with socket.socket(fileno=descriptor) as opened:
            os.set_blocking(descriptor, blocking)  # Python may change it, and it is the library's too
            if (_plain(opened.getsockname()), _plain(opened.getpeername())) != (connection.local, connection.peer):
                return
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            if opened.family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)


def _plain(address: tuple[str, int]) -> Endpoint:
    return address[0].removeprefix(_MAPPED), address[1]
