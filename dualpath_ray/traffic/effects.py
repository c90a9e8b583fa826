"""What the traffic manager's core asks its shell to carry out, and what the shell tells it afterwards."""

from dataclasses import dataclass
from typing import Any

from dualpath_ray.base.errors import DualPathError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.transport.port import CopyBatch


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """Read the sealed block ``key`` into ``slot`` and verify it. Answered by OpDone."""

    op: int
    key: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Seal the Full Block in ``slot`` and write it. Answered by OpDone."""

    op: int
    key: bytes
    parent: bytes
    weights_version: int
    slot: int


@dataclass(frozen=True, slots=True)
class CopyPool:
    """Move a batch between this pool and a peer's. Answered by OpDone."""

    op: int
    peer: str
    write: bool
    batch: CopyBatch
    traffic_class: TrafficClass


@dataclass(frozen=True, slots=True)
class IndexCall:
    """Call the block index (storage nodes). Answered by OpDone with the call's result."""

    op: int
    method: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to an engine (``engine`` index) or to the traffic manager of another node."""

    to: str | int
    message: Any


@dataclass(frozen=True, slots=True)
class Fail:
    """The node cannot go on: end the system with this error."""

    error: DualPathError


@dataclass(frozen=True, slots=True)
class OpDone:
    """An effect with an ``op`` has been carried out."""

    op: int
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class FromEngine:
    message: Any


@dataclass(frozen=True, slots=True)
class FromPeer:
    node: str
    message: Any


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: a NIC has something to say."""


Effect = ReadBlock | WriteBlock | CopyPool | IndexCall | Send | Fail
Event = OpDone | FromEngine | FromPeer | Tick
