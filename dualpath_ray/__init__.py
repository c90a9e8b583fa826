"""DualPath for Ray: KV-cache read through the storage NICs of prefill *and* decode nodes (arXiv 2602.21548).

from dualpath_ray import SamplingParams, connect, start

with start("cluster_configs/laptop_1p1d.yaml") as system:
    client = connect(system)
    print(client.generate(token_ids, SamplingParams(max_tokens=8), "trajectory-1").result())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualpath_ray.cluster.api import connect as connect
    from dualpath_ray.cluster.api import start as start
    from dualpath_ray.engine.sampling import SamplingParams as SamplingParams

__version__ = "0.1.0"
__all__ = ["SamplingParams", "connect", "start"]

_WHERE = {
    "start": "dualpath_ray.cluster.api",
    "connect": "dualpath_ray.cluster.api",
    "SamplingParams": "dualpath_ray.engine.sampling",
}


def __getattr__(name: str) -> Any:  # PEP 562: the command line must not wait for ray and torch to print its help
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
