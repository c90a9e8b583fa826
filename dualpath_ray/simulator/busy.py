"""How long each kind of link of a simulated cluster has been busy."""

from collections.abc import Iterable

from dualpath_ray.base.types import Role
from dualpath_ray.simulator.system import SimSystem
from dualpath_ray.traffic.hops import LinkKind
from dualpath_ray.traffic.nic import Direction


def busy_s(system: SimSystem, now_s: float) -> dict[LinkKind, float]:
    """Seconds up to now, the mean over the links of a kind. A link without a rate is never busy."""
    found: dict[str, float] = {}
    for role, side in ((Role.PREFILL, "pe"), (Role.DECODE, "de")):
        nodes = [node for node in system.nodes.values() if node.role is role]
        found[f"{side}_dram"] = _mean(node.dram.scheduled_busy_s(now_s) for node in nodes)
        for way in Direction:
            found[f"{side}_snic_{way}"] = _mean(node.snic[way].scheduled_busy_s(now_s) for node in nodes)
            found[f"{side}_cnic_{way}"] = _mean(
                nic[way].scheduled_busy_s(now_s) for node in nodes for nic in node.cnics
            )
    return {link: found[link] for link in LinkKind}


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every)
