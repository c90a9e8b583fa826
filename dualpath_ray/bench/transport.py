"""``dualpath bench transport``: blocks from one process's pool to another's on this host, beside memcpy (section 4.1).

A process of its own holds the other pool; this one drives. Every way moves the same scattered blocks, once a round.
"""

import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dualpath_ray.bench.rates import RateRow, Sample, in_rounds, median_s, optional, rate_row, result, table, timed
from dualpath_ray.bench.result import write_result
from dualpath_ray.bench.transport_peers import (
    FLIGHT,
    NIXL,
    RAY,
    flight_read,
    flight_server,
    nixl_holder,
    nixl_read,
    ray_read,
)
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch, Transport

AT_LEAST = 0.85  # of memcpy, through shared memory
RAY_AT_LEAST = 3.0  # times Ray's object store
LIMIT = "memcpy"
OURS = "shared_memory, read"
TRANSPORTS = ("shared_memory", "sockets")
_LATENCIES = 64


@dataclass(frozen=True, slots=True)
class _Other:
    """The process with the other pool."""

    pid: int
    descriptions: dict[str, bytes]
    flight: str  # its address; empty without Arrow Flight
    nixl: bytes  # its agent's metadata; empty without NIXL
    address: int  # of its pool, in its own memory


def run(
    block_sizes: Sequence[int], total_bytes: int, rounds: int, out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """Run the benchmark and write ``transport.json``. Args: total_bytes: moved by each way in a round.

    Raises: ConfigError when there is no room in /dev/shm.
    """
    make_out(out)
    rows: list[RateRow] = []
    skipped: list[str] = []
    for size in block_sizes:
        rows += _at_size(size, max(1, total_bytes // size), rounds, skipped)
    found = result(rows, list(dict.fromkeys(skipped)))
    write_result(out / "transport.json", found)
    for line in [*table(rows), *(f"not here: {reason}" for reason in found["skipped"])]:
        echo(line)
    return found


def _layout(size: int) -> KvLayout:
    return KvLayout(1, 64, size // 64)


def _at_size(size: int, count: int, rounds: int, skipped: list[str]) -> list[RateRow]:
    system = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    layout = _layout(size)
    mine = Segment.create(segment_path(system, "p0"), layout, count, 0, "--total")
    try:
        with _other(system, layout, count) as other:
            transports = {name: transport_factory(name)("p0", mine) for name in TRANSPORTS}
            for name, transport in transports.items():
                transport.connect("d0", other.descriptions[name])
            rows = _measure(mine, other, transports, size, count, rounds, skipped)
            for transport in transports.values():
                transport.close()
        return rows
    finally:
        sweep(system)


def _measure(
    mine: Segment,
    other: _Other,
    transports: dict[str, Transport],
    size: int,
    count: int,
    rounds: int,
    skipped: list[str],
) -> list[RateRow]:
    random = np.random.default_rng(0)
    start = np.int64(mine.slots_offset + mine.layout.header_bytes)
    here, there = (start + random.permutation(count) * mine.layout.slot_bytes for _ in range(2))
    batch = CopyBatch(here, there, np.full(count, size, np.int64))
    one = CopyBatch(here[:1], there[:1], batch.nbytes[:1])
    process = psutil.Process(other.pid)

    def cpu_s() -> float:
        return sum(process.cpu_times()[:2]) + sum(os.times()[:2])

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
    with ExitStack() as stack:
        makers = {
            FLIGHT: partial(flight_read, other.flight, mine, here.tolist(), size),
            NIXL: partial(nixl_read, other.nixl, other.address, mine, batch),
            RAY: partial(ray_read, stack, mine, here.tolist(), size),
        }
        for name, make in makers.items():
            peer = optional(skipped, name, make)
            if peer is not None:
                ways[name] = partial(moved, peer)
        found = in_rounds(ways, rounds + 1)
    rows = [
        rate_row(
            name,
            size,
            samples[1:],
            LIMIT,
            found[LIMIT][1:],
            latencies.get(name),
            AT_LEAST if name == OURS else None,
        )
        for name, samples in found.items()
        if name != LIMIT
    ]
    if RAY in found:
        rows.append(rate_row(OURS, size, found[OURS][1:], RAY, found[RAY][1:], at_least=RAY_AT_LEAST))
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
    transports = {name: transport_factory(name)("d0", segment) for name in TRANSPORTS}
    server = flight_server(segment)
    flight = f"grpc://127.0.0.1:{server.port}" if server is not None else ""
    address: int = segment.bytes.__array_interface__["data"][0]
    descriptions = {name: t.describe() for name, t in transports.items()}
    with ExitStack() as stack:
        pipe.send(_Other(os.getpid(), descriptions, flight, nixl_holder(segment, stack), address))
        with suppress(EOFError):
            pipe.recv()
    if server is not None:
        server.shutdown()
    for transport in transports.values():
        transport.close()
