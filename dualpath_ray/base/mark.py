"""What puts a process' packets into the lane of their class on a real network (section 5). Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A variable that NCCL or UCX reads, and its value: ``UCX_IB_SL`` 2 (InfiniBand), ``UCX_IB_TRAFFIC_CLASS`` 106 (RoCE)."""

    variable: str
    value: str

    def __str__(self) -> str:
        return f"{self.variable}={self.value}"
