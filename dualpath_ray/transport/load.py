"""Choice of a transport by name; ``module:attr`` names one of the user's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dualpath_ray.base.mark import Mark
from dualpath_ray.base.plugin import load_callable
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.choice import AutoTransport
from dualpath_ray.transport.nixl import NixlTransport
from dualpath_ray.transport.port import AskPeer, Transport
from dualpath_ray.transport.shared_memory import SharedMemoryTransport
from dualpath_ray.transport.sockets import SocketTransport

MakeTransport = Callable[[str, Segment], Transport]


@dataclass(frozen=True, slots=True)
class Around:
    """What a transport may have to know besides its own node and pool."""

    address: str  # of the compute NIC that sockets use
    system: str
    nodes: tuple[str, ...]  # of the system, in an order that all agree on
    one_host: bool  # Ray has no other
    help_of: Callable[[str], AskPeer]  # how to ask a peer's traffic manager to take part in a copy
    tos: Mapping[TrafficClass, int] = field(default_factory=dict)  # type of service of each class's packets
    marks: Mapping[TrafficClass, Mark] = field(default_factory=dict)  # of each class's packets by UCX
    device: str | None = None  # of the compute NICs, as UCX names them: eth1, or mlx5_0:1,mlx5_1:1; None: any


def _collective(node: str, segment: Segment, around: Around) -> Transport:
    from dualpath_ray.transport.collective import CollectiveTransport  # loads torch's distributed package

    return CollectiveTransport(node, segment, around.system, around.nodes, around.help_of)


def _rdt(node: str, segment: Segment, around: Around) -> Transport:
    from dualpath_ray.transport.rdt import RdtTransport  # loads torch

    return RdtTransport(node, segment, around.help_of)


def _rdt_cuda_ipc(node: str, segment: Segment, around: Around) -> Transport:
    from dualpath_ray.transport.rdt_cuda_ipc import CudaIpcTransport  # loads torch

    return CudaIpcTransport(node, segment, around.help_of)


TRANSPORTS: dict[str, MakeTransport] = {
    "auto": AutoTransport,
    "shared_memory": SharedMemoryTransport,
    "sockets": SocketTransport,
    "nixl": NixlTransport,
}
_OF_A_SYSTEM: dict[str, Callable[[str, Segment, Around], Transport]] = {
    "auto": lambda node, segment, around: AutoTransport(
        node, segment, around.address, around.device, around.one_host, around.tos, around.marks
    ),
    "nixl": lambda node, segment, around: NixlTransport(node, segment, around.device, around.marks),
    "sockets": lambda node, segment, around: SocketTransport(node, segment, around.address, around.tos),
    "collective": _collective,
    "rdt": _rdt,
    "rdt_cuda_ipc": _rdt_cuda_ipc,
}


def make_transport(spec: str, node: str, segment: Segment, around: Around) -> Transport:
    """A node's transport in a system. One of the user's own gets node name and segment.

    Raises: ConfigError as ``check_transport``.
    """
    made = _OF_A_SYSTEM.get(spec)
    return made(node, segment, around) if made is not None else transport_factory(spec)(node, segment)


def check_transport(spec: str) -> None:
    """Raises: ConfigError naming ``transport`` when there is no such adapter."""
    if spec not in _OF_A_SYSTEM:
        transport_factory(spec)


def transport_factory(spec: str) -> MakeTransport:
    """A name in TRANSPORTS, or ``module:attr``: a callable (node name, segment) that returns a Transport.

    Raises: ConfigError naming ``transport`` when there is no such adapter.
    """
    known = built_in_transports()
    return TRANSPORTS.get(spec) or load_callable(spec, "transport", "transport", known, "(node name, segment)")


def built_in_transports() -> tuple[str, ...]:
    """Names that ``transport`` may have."""
    return tuple(dict.fromkeys((*TRANSPORTS, *_OF_A_SYSTEM)))
