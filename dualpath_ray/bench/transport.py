"""``dualpath bench transport``: blocks from one process's pool to another's on this host, beside memcpy (section 4.1).

A process of its own holds the other pool; this one drives. Every way moves the same scattered blocks, once a round.
"""

import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.memory import address_of
from dualpath_ray.base.nixl_agent import ucx_environment
from dualpath_ray.bench.rates import (
    RateRow,
    Sample,
    in_rounds,
    median_s,
    optional,
    process_cpu_s,
    rate_row,
    result,
    table,
    timed,
)
from dualpath_ray.bench.result import write_result
from dualpath_ray.bench.transport_idle import IdleRow, idle_row, idle_table
from dualpath_ray.bench.transport_peers import (
    FLIGHT,
    MOONCAKE,
    NIXL,
    flight_read,
    flight_server,
    mooncake_holder,
    mooncake_read,
    nixl_holder,
    nixl_read,
)
from dualpath_ray.bench.transport_ray import OBJECT_STORE, measure_ray
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch, Transport

AT_LEAST = 0.85  # of memcpy, through shared memory
RAY_AT_LEAST = 3.0  # times Ray's object store
LIMIT = "memcpy"
OURS = "shared_memory, read"
TRANSPORTS = {  # by the name in a row: adapter, and what UCX is told
    "shared_memory": ("shared_memory", None),
    "sockets (TCP)": ("sockets", None),
    "nixl (UCX in one host)": ("nixl", None),
    "nixl (TCP: UCX_TLS=tcp,self)": ("nixl", "tcp,self"),
}
_LATENCIES = 64


@dataclass(frozen=True, slots=True)
class _Other:
    """The process with the other pool."""

    pid: int
    descriptions: dict[str, bytes]
    flight: str  # its address; empty without Arrow Flight
    nixl: bytes  # its agent's metadata; empty without NIXL
    mooncake: str  # where its engine is; empty without Mooncake
    address: int  # of its pool, in its own memory


def run(
    block_sizes: Sequence[int], total_bytes: int, rounds: int, out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """Run the benchmark and write ``transport.json``. Args: total_bytes: moved by each way in a round.

    Raises: ConfigError when there is no room in /dev/shm.
    """
    make_out(out)
    rows: list[RateRow] = []
    idle: dict[str, IdleRow] = {}
    skipped: list[str] = []
    for adapter in dict.fromkeys(adapter for adapter, _ in TRANSPORTS.values()):
        row = optional(skipped, f"{adapter}, idle", partial(idle_row, adapter))
        if row is not None:
            idle[adapter] = row
    for size in block_sizes:
        rows += _at_size(size, max(1, total_bytes // size), rounds, skipped, idle)
    found = {
        **result(rows, list(dict.fromkeys(skipped))),
        "idle": [asdict(row) for row in idle.values()],
    }
    write_result(out / "transport.json", found)
    lines = [*table(rows), "", *idle_table(list(idle.values()))]
    for line in [*lines, *(f"not here: {reason}" for reason in found["skipped"])]:
        echo(line)
    return found


def _layout(size: int) -> KvLayout:
    return KvLayout(1, 64, size // 64)


def _open(node: str, segment: Segment, skipped: list[str]) -> dict[str, Transport]:
    """All that can run here, by the name in a row."""
    found = {}
    for name, (adapter, ucx_transports) in TRANSPORTS.items():
        with ucx_environment(**{"UCX_TLS": ucx_transports} if ucx_transports else {}):
            transport = optional(skipped, name, partial(transport_factory(adapter), node, segment))
        if transport is not None:
            found[name] = transport
    return found


def _at_size(size: int, count: int, rounds: int, skipped: list[str], idle: dict[str, IdleRow]) -> list[RateRow]:
    system = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    layout = _layout(size)
    mine = Segment.create(segment_path(system, "p0"), layout, count, 0, "--total")
    try:
        with _other(system, layout, count) as other:
            transports = _open("p0", mine, skipped)
            for name, transport in transports.items():
                transport.connect("d0", other.descriptions[name])
            rows = _measure(system, mine, other, transports, size, count, rounds, skipped, idle)
            for transport in transports.values():
                transport.close()
        return rows
    finally:
        sweep(system)


def _measure(
    system: str,
    mine: Segment,
    other: _Other,
    transports: dict[str, Transport],
    size: int,
    count: int,
    rounds: int,
    skipped: list[str],
    idle: dict[str, IdleRow],
) -> list[RateRow]:
    random = np.random.default_rng(0)
    start = np.int64(mine.slots_offset + mine.layout.header_bytes)
    here, there = (start + random.permutation(count) * mine.layout.slot_bytes for _ in range(2))
    batch = CopyBatch(here, there, np.full(count, size, np.int64))
    one = CopyBatch(here[:1], there[:1], batch.nbytes[:1])

    def cpu_s() -> float:
        return time.process_time() + process_cpu_s(other.pid)

    source = np.frombuffer(mmap.mmap(-1, len(mine.bytes)), np.uint8)
    source[:] = 1

    def memcpy() -> None:
        for to, of in zip(here.tolist(), there.tolist(), strict=True):
            mine.bytes[to : to + size] = source[of : of + size]

    def moved(work: Callable[[], Any]) -> Sample:
        return timed(count * size, work, cpu_s)

    ways: dict[str, Callable[[], Sample]] = {LIMIT: partial(moved, memcpy)}
    latencies: dict[str, float] = {}
    for name, transport in transports.items():
        ways[f"{name}, read"] = partial(moved, partial(transport.read, "d0", batch))
        ways[f"{name}, write"] = partial(moved, partial(transport.write, "d0", batch))
        latencies[f"{name}, read"] = median_s(partial(transport.read, "d0", one), _LATENCIES)
        latencies[f"{name}, write"] = median_s(partial(transport.write, "d0", one), _LATENCIES)
    makers = {
        FLIGHT: partial(flight_read, other.flight, mine, here.tolist(), size),
        MOONCAKE: partial(mooncake_read, other.mooncake, other.address, mine, batch),
        NIXL: partial(nixl_read, other.nixl, other.address, mine, batch),
    }
    for name, make in makers.items():
        peer = optional(skipped, name, make)
        if peer is not None:
            ways[name] = partial(moved, peer)
    found = {name: samples[1:] for name, samples in in_rounds(ways, rounds + 1).items()}
    for way in measure_ray(system, mine, batch, one, rounds, _LATENCIES, skipped):
        found[way.name], latencies[way.name] = way.samples, way.latency_s
        if way.idle_cores is not None:
            idle.setdefault(way.name, IdleRow(way.name, way.idle_cores))
    rows = [
        rate_row(name, size, samples, LIMIT, found[LIMIT], latencies.get(name), AT_LEAST if name == OURS else None)
        for name, samples in found.items()
    ]
    if OBJECT_STORE in found:
        rows.append(rate_row(OURS, size, found[OURS], OBJECT_STORE, found[OBJECT_STORE], at_least=RAY_AT_LEAST))
    return rows


@contextmanager
def _other(system: str, layout: KvLayout, count: int) -> Iterator[_Other]:
    context = get_context("spawn")
    pipe, its_pipe = context.Pipe()
    process = context.Process(target=_hold_pool, args=(its_pipe, system, layout, count), daemon=True)
    process.start()
    its_pipe.close()
    try:
        yield pipe.recv()
    finally:
        with suppress(OSError):
            pipe.send(None)
        process.join(10)
        process.kill()


def _hold_pool(pipe: Connection, system: str, layout: KvLayout, count: int) -> None:
    """The other process: a pool, and what is needed to reach it, until told to end."""
    segment = Segment.create(segment_path(system, "d0"), layout, count, 0, "--total")
    segment.slots[:] = 2
    transports = _open("d0", segment, [])
    server = flight_server(segment)
    flight = f"grpc://127.0.0.1:{server.port}" if server is not None else ""
    address = address_of(segment.bytes)
    descriptions = {name: t.describe() for name, t in transports.items()}
    with ExitStack() as stack:
        others = nixl_holder(segment, stack), mooncake_holder(segment, stack)
        pipe.send(_Other(os.getpid(), descriptions, flight, *others, address))
        with suppress(EOFError):
            pipe.recv()
    if server is not None:
        server.shutdown()
    for transport in transports.values():
        transport.close()
