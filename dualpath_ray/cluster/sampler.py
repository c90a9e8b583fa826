"""The counters of a system's NICs over the time of a rollout."""

from typing import Any

from dualpath_ray.cluster.membership import node_number
from dualpath_ray.cluster.system import System
from dualpath_ray.observability.run_record import NicSample


class Sampler:
    """Asks every node for its counters now and then."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.samples: list[NicSample] = []
        self._nodes: dict[str, dict[str, Any]] = {}
        self._zero: dict[str, dict[str, float]] = {}
        self._last: dict[str, NicSample] = {}
        self._before: dict[str, NicSample] = {}

    def sample(self) -> dict[str, Any]:
        """Status of the whole system; NIC counters are kept as samples, from zero at the first."""
        status = self._system.status()
        self._nodes |= status["nodes"]
        for node in status["nodes"].values():
            for name, nic in node["nics"].items():
                zero = self._zero.setdefault(name, {"moved": nic["moved_bytes"], "busy": nic["busy_s"]})
                sample = NicSample(
                    node["time_s"],
                    name,
                    nic["moved_bytes"] - zero["moved"],
                    nic["busy_s"] - zero["busy"],
                    nic["queued_bytes"],
                )
                self.samples.append(sample)
                if name in self._last:
                    self._before[name] = self._last[name]
                self._last[name] = sample
        return status

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """What every node that was ever there told last, prefill nodes first."""
        order = sorted(self._nodes, key=lambda node: (not node.startswith("p"), node_number(node)))
        return {node: self._nodes[node] for node in order}

    def utilisation(self) -> dict[str, tuple[float, int]]:
        """Per direction: (busy share between the last two samples, queued bytes)."""
        out = {}
        for name, last in self._last.items():
            before = self._before.get(name, last)
            passed = last.time_s - before.time_s
            busy = (last.busy_s - before.busy_s) / passed if passed > 0 else 0.0
            out[name] = (min(1.0, max(0.0, busy)), last.queued_bytes)
        return out
