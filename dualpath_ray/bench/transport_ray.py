"""Ray's own channels, each moving the same blocks out of another process into slots of a pool.

They are measured apart from the rest: some keep a core busy while nothing moves, which would slow the others.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import ray

from dualpath_ray.bench.rates import Sample, optional, process_cpu_s
from dualpath_ray.bench.transport_idle import IDLE_S, SETTLE_S
from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.transport.load import Around, make_transport
from dualpath_ray.transport.port import AskPeer, CopyBatch

OBJECT_STORE = "Ray put and get into a buffer"
COMPILED_GRAPH = "Ray compiled graph (channel in shared memory), copied into a buffer"
COLLECTIVE = "collective (ray.util.collective over gloo, TCP), read"
RDT = "rdt (Ray Direct Transport over NIXL), read"
_AT_ONCE_BYTES = 16 << 20  # of Ray's memory that blocks take
_NODES = ("p0", "d0")
_ANSWER_S = 120.0


@dataclass(frozen=True, slots=True)
class RayWay:
    """What was measured of one channel. ``idle_cores``: of each of its two actors; None where none is an agent."""

    name: str
    samples: list[Sample]
    latency_s: float
    idle_cores: float | None


@dataclass(frozen=True, slots=True)
class _Channel:
    read: Callable[[CopyBatch], float]  # returns seconds
    pids: list[int]  # of its actors
    has_agents: bool


def measure_ray(
    system: str, mine: Segment, batch: CopyBatch, one: CopyBatch, rounds: int, latencies: int, skipped: list[str]
) -> Iterator[RayWay]:
    """Every channel, one after another; their limit is that of the quiet rounds before.

    Args: system: names further pools; one: a block of the batch.
    """
    session = RaySession()
    session.open(None, 1)
    makers = {
        OBJECT_STORE: partial(_object_store, mine),
        COMPILED_GRAPH: partial(_compiled_graph, mine),
        COLLECTIVE: partial(_transport, "collective", system, mine),
        RDT: partial(_transport, "rdt", system, mine),
    }
    try:
        for name, make in makers.items():
            with ExitStack() as stack:
                way = optional(skipped, name, partial(_measure, name, make, stack, batch, one, rounds, latencies))
                if way is not None:
                    yield way
    finally:
        session.close()


def _measure(
    name: str,
    make: Callable[[ExitStack, CopyBatch], _Channel],
    stack: ExitStack,
    batch: CopyBatch,
    one: CopyBatch,
    rounds: int,
    latencies: int,
) -> RayWay:
    channel = make(stack, batch)

    def cpu_s() -> float:
        return time.process_time() + sum(map(process_cpu_s, channel.pids))

    def sample() -> Sample:
        before = cpu_s()
        seconds = channel.read(batch)
        return Sample(batch.total_bytes, seconds, cpu_s() - before)

    samples = [sample() for _ in range(rounds + 1)][1:]
    latency_s = float(np.median([channel.read(one) for _ in range(latencies)]))
    return RayWay(name, samples, latency_s, _idle_cores(channel.pids) if channel.has_agents else None)


def _idle_cores(pids: list[int]) -> float:
    time.sleep(SETTLE_S)
    before = sum(map(process_cpu_s, pids))
    time.sleep(IDLE_S)
    return (sum(map(process_cpu_s, pids)) - before) / IDLE_S / len(pids)


class _Blocks:
    """An actor whose blocks are taken one after another."""

    def __init__(self, count: int, size: int) -> None:
        self._blocks = np.full((count, size), 2, np.uint8)

    def pid(self) -> int:
        return os.getpid()

    def put(self, first: int, stop: int) -> list[Any]:
        return [ray.put(block) for block in self._blocks[first:stop]]

    def span(self, span: tuple[int, int]) -> np.ndarray:
        return self._blocks[span[0] : span[1]]


def _holder(stack: ExitStack, batch: CopyBatch) -> tuple[Any, list[int]]:
    """An actor with as many blocks, and its process."""
    holder = ray.remote(num_cpus=0)(_Blocks).remote(len(batch.nbytes), int(batch.nbytes[0]))
    stack.callback(ray.kill, holder)
    return holder, [ray.get(holder.pid.remote())]


def _object_store(mine: Segment, stack: ExitStack, batch: CopyBatch) -> _Channel:
    holder, pids = _holder(stack, batch)

    def blocks(first: int, stop: int) -> Any:
        return ray.get(ray.get(holder.put.remote(first, stop)))

    return _Channel(partial(_take, mine, blocks), pids, False)


def _compiled_graph(mine: Segment, stack: ExitStack, batch: CopyBatch) -> _Channel:
    from ray.dag import InputNode

    holder, pids = _holder(stack, batch)
    with InputNode() as span:
        graph = holder.span.bind(span)
    most = max(_AT_ONCE_BYTES, int(batch.nbytes[0]))
    compiled = graph.experimental_compile(_buffer_size_bytes=most + (64 << 10))
    stack.callback(compiled.teardown)
    return _Channel(partial(_take, mine, lambda *span: ray.get(compiled.execute(span))), pids, False)


def _take(mine: Segment, blocks: Callable[[int, int], Any], batch: CopyBatch) -> float:
    """As many blocks as the batch has, into its places. Returns: seconds."""
    began, size = time.perf_counter(), int(batch.nbytes[0])
    step = max(1, _AT_ONCE_BYTES // size)
    here = batch.local.tolist()
    for first in range(0, len(here), step):
        places = here[first : first + step]
        for at, block in zip(places, blocks(first, first + len(places)), strict=True):
            mine.bytes[at : at + size] = block
    return time.perf_counter() - began


class _Node:
    """An actor with a pool and one of our transports over Ray, as a traffic manager has them."""

    def __init__(self, transport: str, system: str, node: str, layout: KvLayout, num_slots: int) -> None:
        self._system = system
        self._segment = Segment.create(segment_path(system, node), layout, num_slots, 0, "--total")
        self._segment.slots[:] = 2
        around = Around(address="127.0.0.1", system=system, nodes=_NODES, one_host=True, help_of=self._help_of)
        self._transport: Any = make_transport(transport, node, self._segment, around)

    def _help_of(self, peer: str) -> AskPeer:
        ask: AskPeer = ray.get_actor(f"{self._system}/{peer}").help.remote
        return ask

    def pid(self) -> int:
        return os.getpid()

    def describe(self) -> bytes:
        described: bytes = self._transport.describe()
        return described

    def connect(self, peer: str, description: bytes) -> None:
        self._transport.connect(peer, description)

    def help(self, *request: Any) -> Any:
        return self._transport.help(*request)

    def read(self, batch: CopyBatch) -> float:
        """Returns: seconds."""
        began = time.perf_counter()
        self._transport.read(_NODES[1], batch)
        return time.perf_counter() - began


def _transport(name: str, system: str, mine: Segment, stack: ExitStack, batch: CopyBatch) -> _Channel:
    """Two actors with a pool each like ``mine``."""
    kind = ray.remote(num_cpus=0, max_concurrency=8, enable_tensor_transport=name == "rdt")(_Node)
    system = f"{system}-{name}"
    stack.callback(sweep, system)
    nodes = []
    for node in _NODES:
        nodes.append(kind.options(name=f"{system}/{node}").remote(name, system, node, mine.layout, mine.num_slots))
        stack.callback(ray.kill, nodes[-1])
    described = ray.get([node.describe.remote() for node in nodes], timeout=_ANSWER_S)
    both = zip(nodes, _NODES[::-1], described[::-1], strict=True)  # at once: a group comes to be when all are there
    ray.get([node.connect.remote(peer, at) for node, peer, at in both], timeout=_ANSWER_S)

    def read(batch: CopyBatch) -> float:
        seconds: float = ray.get(nodes[0].read.remote(batch), timeout=_ANSWER_S)
        return seconds

    return _Channel(read, ray.get([node.pid.remote() for node in nodes]), True)
