"""``dualpath bench scheduler``: how many requests one scheduler places, and how long a fetch takes (section 7.6).

The pure policy, then the same through the detached actor, for 6, 48 and 1,152 engines and queues of up to 10^5 waiting
requests. The limit beside a fetch is an empty call to the same actor in the same run.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.types import Role
from dualpath_ray.bench.result import write_result
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, GroupReport, NodeLoad, PrefillLoad, Request

SYSTEMS = ((2, 4, 1), (2, 4, 8), (48, 96, 8))  # prefill nodes, decode nodes, engines of a node
QUEUES = (1_000, 10_000, 100_000)
_ROOM = 2**50
_LIMITS = FetchLimits(short_read_queue_tokens=2_000_000, max_unfinished_tokens=_ROOM, token_bytes=70_000, block_tokens=64)


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One measurement. ``empty_call_p99_s``: of a call that does nothing, through the actor only."""

    name: str  # policy or actor
    num_engines: int
    num_waiting: int
    assignments_per_s: float
    fetch_p99_s: float
    empty_call_p99_s: float | None = None


def requests(count: int) -> list[Request]:
    """Turns of agents: contexts of some 33,000 tokens, of which nearly all is a hit (Table 2, 64K)."""
    rng = np.random.default_rng(0)
    prompts, news = rng.integers(2_000, 64_000, count).tolist(), rng.integers(20, 400, count).tolist()
    return [
        Request(f"r{i}", 1, f"t{i}", prompt, int(prompt * 0.987), new)
        for i, (prompt, new) in enumerate(zip(prompts, news, strict=True))
    ]


def reports(prefill: int, decode: int, gpus: int, number: int = 0, seen: int = 0) -> list[GroupReport]:
    """First reports of every group: idle engines with room for everything."""
    out = []
    for role, prefix, count in ((Role.PREFILL, "p", prefill), (Role.DECODE, "d", decode)):
        for i in range(count):
            names = [f"{prefix}{i}/e{k}" for k in range(gpus)]
            loads = tuple(
                PrefillLoad(name, 0, 0) if role is Role.PREFILL else DecodeLoad(name, 0, 0, _ROOM) for name in names
            )
            node = NodeLoad(f"{prefix}{i}", 0, 0, True, _ROOM)
            out.append(GroupReport(f"{prefix}{i}", role, node, loads, seen, (), number))
    return out
