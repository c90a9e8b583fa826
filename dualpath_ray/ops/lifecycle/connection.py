"""The Ray cluster that a command is about."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dualpath_ray.cluster.local_ray import local_ray
from dualpath_ray.cluster.placement import RaySession


def cluster_address(address: str | None) -> str | None:
    """The one that is named, by the command or by Ray's variable; else that which ``dualpath up`` started."""
    named = address or os.environ.get("RAY_ADDRESS")
    if named:
        return named
    own = local_ray()
    return own.address if own is not None else None


@contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Within a cluster: the named one, ours, or that of this machine.

    Raises: ConfigError when there is none.
    """
    session = RaySession()
    session.open(cluster_address(address) or "auto", 0)
    try:
        yield
    finally:
        session.close()
