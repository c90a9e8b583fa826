"""Connections that a library has opened, found and marked from outside."""

import fcntl
import os
import socket
import subprocess
import sys

import pytest

from dualpath_ray.base.open_sockets import between, set_tos, tcp_connections


def tos(connection: socket.socket) -> int:
    if connection.family == socket.AF_INET6:
        return connection.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
    return connection.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_only_connections_between_the_two_are_marked(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as other,
        socket.create_connection(server.getsockname()[:2]) as made,
    ):
        accepted = [server.accept()[0] for _ in range(2)]
        found = tcp_connections()
        assert {each.descriptor for each in found} >= {other.fileno(), made.fileno()}
        ends = made.getsockname()[:2]
        theirs = [(each.local, each.peer) for each in found if each.local == ends]
        marked = between(found, theirs)
        assert [each.local for each in marked] == [server.getsockname()[:2]] and marked[0].peer == ends
        for each in marked:
            set_tos(each, 46 << 2)
        assert sorted(tos(each) for each in accepted) == [0, 46 << 2] and tos(made) == tos(other) == 0
        for each in accepted:
            each.close()


def test_a_descriptor_that_has_become_another_socket_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        (found,) = (each for each in tcp_connections() if each.descriptor == first.fileno())
        first.close()
        with socket.create_connection(server.getsockname()) as second:
            assert second.fileno() == found.descriptor, "the kernel gives the lowest number that is free"
            set_tos(found, 184)
            assert tos(second) == 0


def test_locks_on_files_and_waiting_sockets_stay_as_they_are(tmp_path):
    """Closing any descriptor of a file gives up this process' locks on it; Python's sockets have a timeout of their own."""
    script = "import fcntl,sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with (
        (tmp_path / "lock").open("w") as locked,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as made,
    ):
        fcntl.lockf(locked, fcntl.LOCK_EX)
        socket.setdefaulttimeout(5)
        try:
            for each in tcp_connections():
                if each.descriptor == made.fileno():
                    set_tos(each, 184)
        finally:
            socket.setdefaulttimeout(None)
        assert tos(made) == 184 and os.get_blocking(made.fileno())
        taken = subprocess.run(
            [sys.executable, "-c", script, locked.name], capture_output=True, check=False, timeout=30
        )
        assert b"BlockingIOError" in taken.stderr
