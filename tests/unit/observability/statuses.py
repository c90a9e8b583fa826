"""What actors say of themselves, from the real cores where they are pure."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dualpath_ray.base.types import Role
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.scheduler.actor import RequestScheduler
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, GroupReport, NodeLoad, PrefillLoad, Request
from dualpath_ray.storage.actor import StorageNode
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.nic import Direction, Nic

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)
NODE = {"system": "s", "node": "p0", "role": "prefill"}
PREFILL = {
    "engine": "p0/e0",
    "num_batches": 4,
    "computed_tokens": 80,
    "compute_s": 2.0,
    "kv_outside_pool_peak_bytes": 0,
    "overlapped_pairs": 3,
    "layer_pairs": 4,
    "stall_s": 0.5,
    "batch_requests": 6,
    "running_requests": 2,
    "predicted_s": 0.3,
    "quota_s": 0.3,
    "cpu_s": 3.0,
}
DECODE = {
    "engine": "d0/e0",
    "num_steps": 10,
    "generated_tokens": 20,
    "compute_s": 1.0,
    "batch_requests": 20,
    "running_requests": 3,
    "kv_tokens": 30,
    "hbm_tokens": 120,
    "cpu_s": 1.0,
}


@contextmanager
def node_core() -> Iterator[TrafficCore]:
    """Of a node whose NICs are emulated at 1000 bytes a second."""
    path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "p0")
    segment = Segment.create(path, LAYOUT, 4, 0, "node.pe_buffer_bytes")
    try:
        snic, cnic = (Nic(f"p0/{name}", 1000.0, 1000.0) for name in ("snic", "cnic0"))
        context = NodeContext("p0", LAYOUT, BufferPool(segment), segment.slots_offset, snic, [cnic])
        yield TrafficCore(context, [], 1, 0.0)
    finally:
        segment.unlink()
        os.close(segment.fd)


def node_status(core: TrafficCore, now_s: float) -> dict[str, Any]:
    return {**core.status(now_s), "cpu_s": now_s}


def carry(core: TrafficCore, nbytes: int, now_s: float) -> None:
    """So many bytes go into the node over its storage NIC, from now on."""
    core.context.now_s = now_s
    core.context.wire(core.context.snic, Direction.IN, nbytes)


def scheduler(read_path: str = "scheduled") -> RequestScheduler:
    limits = FetchLimits(short_read_queue_tokens=1000, max_unfinished_tokens=5000)
    return RequestScheduler(limits, read_path, [("p0", Role.PREFILL), ("d0", Role.DECODE)])


def report(group: str, read_bytes: int = 0, can_read: bool = True, tokens: int = 0, room: int = 10**6) -> GroupReport:
    node = NodeLoad(group, 0, read_bytes, can_read, 10**6)
    if group.startswith("p"):
        return GroupReport(group, Role.PREFILL, node, (PrefillLoad(f"{group}/e0", 1, tokens),), 0)
    return GroupReport(group, Role.DECODE, node, (DecodeLoad(f"{group}/e0", 1, tokens, room),), 0)


def request(name: str, prompt: int = 100, hit: int = 60) -> Request:
    return Request(name, 1, f"t-{name}", prompt, hit, 10)


def storage_status(root: str) -> dict[str, Any]:
    return dict(StorageNode("storage0", "local", root, LAYOUT, 10 * LAYOUT.sealed_bytes, "lo").status())
