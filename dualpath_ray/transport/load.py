"""Choice of a transport by name; ``module:attr`` names one of the user's own."""

import importlib
from collections.abc import Callable

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.port import Transport
from dualpath_ray.transport.shared_memory import SharedMemoryTransport


def transport_factory(spec: str) -> Callable[[str, Segment], Transport]:
    """``shared_memory``, or ``module:attr``: a callable (node name, segment) that returns a Transport.

    Raises: ConfigError naming ``transport`` when there is no such adapter.
    """
    if spec == "shared_memory":
        return SharedMemoryTransport
    module, colon, attr = spec.partition(":")
    if not colon:
        raise ConfigError(f"transport: there is no transport {spec!r}; use shared_memory or module:attr")
    try:
        factory: Callable[[str, Segment], Transport] = getattr(importlib.import_module(module), attr)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"transport: {spec!r} cannot be imported: {error}") from error
    return factory
