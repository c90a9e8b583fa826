"""Sockets that a library has opened, found and marked from outside."""

import socket

from dualpath_ray.base.open_sockets import mark, tcp_sockets


def tos(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


def test_connections_opened_meanwhile_are_marked_and_no_others():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as before:
        known = tcp_sockets()
        with socket.create_connection(server.getsockname()) as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM):
            new = tcp_sockets() - known
            assert [descriptor for descriptor, _ in new] == [made.fileno()]
            assert mark(new, 46 << 2) == 1
            assert tos(made) == 46 << 2 and tos(before) == 0


def test_a_descriptor_that_has_become_another_socket_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        found = {entry for entry in tcp_sockets() if entry[0] == first.fileno()}
        number = first.fileno()
        first.close()
        with socket.create_connection(server.getsockname()) as second:
            assert second.fileno() == number, "the kernel gives the lowest number that is free"
            assert mark(found, 184) == 0 and tos(second) == 0
