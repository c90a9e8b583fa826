"""Choice of a transport by name; ``module:attr`` names one of the user's own."""

from collections.abc import Callable

from dualpath_ray.base.plugin import load_callable
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.port import Transport
from dualpath_ray.transport.shared_memory import SharedMemoryTransport


def transport_factory(spec: str) -> Callable[[str, Segment], Transport]:
    """``shared_memory``, or ``module:attr``: a callable (node name, segment) that returns a Transport.

    Raises: ConfigError naming ``transport`` when there is no such adapter.
    """
    if spec == "shared_memory":
        return SharedMemoryTransport
    return load_callable(spec, "transport", "transport", ("shared_memory",), "(node name, segment)")
