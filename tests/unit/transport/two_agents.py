"""NIXL with an agent for each class over TCP, whose packets UCX cannot mark: the ports that agents listen on tell them apart."""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress

from dualpath_ray.base.mark import Mark
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.nixl import NixlTransport

# Below those that the kernel chooses from: each connection has one port of the agent that was asked, and one of any.
PORTS = {TrafficClass.KV_CACHE: range(20_000, 25_000), TrafficClass.KV_URGENT: range(25_000, 30_000)}
MARKS = {each: Mark("UCX_TCP_PORT_RANGE", f"{ports[0]}-{ports[-1]}") for each, ports in PORTS.items()}
_MOVED = struct.Struct("<120xQQ")  # of Linux' tcp_info: tcpi_bytes_acked, tcpi_bytes_received


def nixl_of_two_agents(node: str, segment: Segment, device: str | None = None) -> NixlTransport:
    return NixlTransport(node, segment, device, MARKS)


def moved_bytes() -> dict[TrafficClass, int]:
    """Sent and received on this process' connections to and from the agents of each class, as the kernel counts them."""
    found = dict.fromkeys(PORTS, 0)
    for end in _tcp_sockets():
        with suppress(OSError):  # it listens, or was closed meanwhile
            ports = end.getsockname()[1], end.getpeername()[1]
            moved = sum(_MOVED.unpack(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOVED.size)))
            for traffic_class, agents in PORTS.items():
                found[traffic_class] += moved if any(port in agents for port in ports) else 0
    return found


def listening_ports() -> set[int]:
    """Of this process."""
    return {end.getsockname()[1] for end in _tcp_sockets() if end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)}


def _tcp_sockets() -> Iterator[socket.socket]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile: the one that lists them is
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                with socket.socket(fileno=os.dup(int(name))) as end:
                    if (end.family, end.type) == (socket.AF_INET, socket.SOCK_STREAM):
                        yield end
