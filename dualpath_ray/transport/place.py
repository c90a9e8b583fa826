"""Where a pool is, as its peers are told: on which host, in which memory, and of which layout."""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.kv.segment import SHM_DIR, Segment


@cache
def shared_memory_id() -> str:
    """Names what is mounted as /dev/shm: two processes with the same one see one another's segments."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.stat(SHM_DIR).st_dev}"


@dataclass(frozen=True, slots=True)
class Place:
    """A node's pool. ``more`` is what the adapter adds, of JSON."""

    node: str
    shared_memory: str
    path: str
    num_bytes: int
    layout: tuple[int, ...]
    more: dict[str, Any]

    @classmethod
    def of(cls, node: str, segment: Segment, more: dict[str, Any]) -> "Place":
        return cls(node, shared_memory_id(), str(segment.path), len(segment.bytes), tuple(segment.layout.shape), more)

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, raw: bytes) -> "Place":
        data = json.loads(raw)
        return cls(**{**data, "layout": tuple(data["layout"])})

    def check_layout(self, node: str, segment: Segment) -> None:
        """Raises: LayoutError naming both ends when their pools hold different blocks."""
        if self.layout != tuple(segment.layout.shape):
            raise LayoutError(f"{node} holds blocks {segment.layout.shape} and {self.node} {self.layout}")
