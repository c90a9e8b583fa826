"""Choice of a transport by name; ``module:attr`` names one of the user's own."""

from collections.abc import Callable

from dualpath_ray.base.plugin import load_callable
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.choice import AutoTransport
from dualpath_ray.transport.port import Transport
from dualpath_ray.transport.shared_memory import SharedMemoryTransport
from dualpath_ray.transport.sockets import SocketTransport

MakeTransport = Callable[[str, Segment], Transport]


ADDRESSED: dict[str, Callable[[str, Segment, str], Transport]] = {"auto": AutoTransport, "sockets": SocketTransport}
TRANSPORTS: dict[str, MakeTransport] = {
    "auto": AutoTransport,
    "shared_memory": SharedMemoryTransport,
    "sockets": SocketTransport,
}


def make_transport(spec: str, node: str, segment: Segment, address: str) -> Transport:
    """A node's transport. Args: address: of its compute NIC; one of the user's own finds out for itself.

    Raises: ConfigError as ``transport_factory``.
    """
    if spec in ADDRESSED:
        return ADDRESSED[spec](node, segment, address)
    return transport_factory(spec)(node, segment)


def transport_factory(spec: str) -> MakeTransport:
    """A name in TRANSPORTS, or ``module:attr``: a callable (node name, segment) that returns a Transport.

    Raises: ConfigError naming ``transport`` when there is no such adapter.
    """
    return TRANSPORTS.get(spec) or load_callable(
        spec, "transport", "transport", tuple(TRANSPORTS), "(node name, segment)"
    )
