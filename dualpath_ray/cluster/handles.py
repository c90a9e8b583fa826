"""The actors of a system, and what a process must know to use them."""

from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.base.types import Role
from dualpath_ray.cluster.plan import SystemPlan
from dualpath_ray.engine.group import engine_id

SCHEDULER_NAME = "scheduler"


@dataclass(slots=True)
class Handles:
    """The actors of a system, by name; nodes may come and go."""

    scheduler: Any = None
    storage: list[Any] = field(default_factory=list)
    traffic: dict[str, Any] = field(default_factory=dict)  # by node, as the next two
    prefill: dict[str, Any] = field(default_factory=dict)  # by engine
    decode: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> "Handles":
        """One that does not change with this one."""
        return Handles(self.scheduler, [*self.storage], {**self.traffic}, {**self.prefill}, {**self.decode})

    @property
    def engines(self) -> dict[str, Any]:
        return {**self.prefill, **self.decode}

    def of_role(self, role: Role) -> dict[str, Any]:
        """Its engines."""
        return self.prefill if role is Role.PREFILL else self.decode

    def nodes_of(self, role: Role) -> list[str]:
        """Logical nodes of a role, in the order in which they came."""
        engines = self.of_role(role)
        return [node for node in self.traffic if engine_id(node, 0) in engines]

    def role_of(self, node: str) -> Role:
        return Role.PREFILL if engine_id(node, 0) in self.prefill else Role.DECODE

    def engines_of(self, node: str) -> dict[str, Any]:
        """The engines of a node, its leader first."""
        return {name: handle for name, handle in self.engines.items() if name.startswith(f"{node}/")}

    def forget(self, node: str) -> None:
        """A node has left."""
        for engine in self.engines_of(node):
            self.prefill.pop(engine, None)
            self.decode.pop(engine, None)
        self.traffic.pop(node, None)

    def named(self) -> dict[str, Any]:
        """Every actor under the name that people see."""
        out = {f"storage node {i}": handle for i, handle in enumerate(self.storage)}
        out |= {f"traffic manager {node}": handle for node, handle in self.traffic.items()}
        out |= {f"prefill engine {name}": handle for name, handle in self.prefill.items()}
        out |= {f"decode engine {name}": handle for name, handle in self.decode.items()}
        if self.scheduler is not None:
            out["scheduler"] = self.scheduler
        return out


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a process needs to use a system that another one started. The scheduler keeps it."""

    version: int  # counts up as nodes come and go
    plan: SystemPlan  # its counts of nodes are what was asked for last
    fingerprint: str  # of the starter's code and configuration
    code: str  # of its code alone
    profile: dict[str, Any]  # of the slowest prefill engine
    store_root: str
    store_stays: bool  # when the system is removed
    detached: bool  # it outlives its starter
    most_nodes: int  # that the scheduler has threads for
    shm_name: str  # of its segments and sockets
    handles: Handles  # without the scheduler
