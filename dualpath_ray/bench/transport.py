"""``dualpath bench transport``: blocks from one process's pool to another's on this host, beside memcpy (section 4.1).

A process of its own holds the other pool; this one drives. Every way moves the same scattered blocks, once a round.
"""

import mmap
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch, Transport

AT_LEAST = 0.85  # of memcpy, through shared memory
LIMIT = "memcpy"
TRANSPORTS = ("shared_memory", "sockets")
FLIGHT = "Arrow Flight over loopback TCP"
_LATENCIES = 64


@dataclass(frozen=True, slots=True)
class _Other:
    """The process with the other pool."""

    pid: int
    descriptions: dict[str, bytes]
    flight: str  # its address; empty without Arrow Flight


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
    flight = optional(skipped, FLIGHT, partial(_flight, other.flight, mine, here.tolist(), size))
    if flight is not None:
        ways[FLIGHT] = partial(moved, flight)
    found = in_rounds(ways, rounds + 1)
    return [
        rate_row(
            name,
            size,
            samples[1:],
            LIMIT,
            found[LIMIT][1:],
            latencies.get(name),
            AT_LEAST if name == "shared_memory, read" else None,
        )
        for name, samples in found.items()
        if name != LIMIT
    ]


def _flight(address: str, mine: Segment, here: list[int], size: int) -> Callable[[], None]:
    """Blocks as one binary column, each copied into its slot as it comes."""
    from pyarrow import flight

    client = flight.connect(address)

    def read() -> None:
        at = iter(here)
        for chunk in client.do_get(flight.Ticket(b"blocks")):
            for block in chunk.data.column(0):
                to = next(at)
                mine.bytes[to : to + size] = np.frombuffer(block.as_buffer(), np.uint8)

    read()
    return read


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
    server = _flight_server(segment)
    flight = f"grpc://127.0.0.1:{server.port}" if server is not None else ""
    pipe.send(_Other(os.getpid(), {name: t.describe() for name, t in transports.items()}, flight))
    with suppress(EOFError):
        pipe.recv()
    if server is not None:
        server.shutdown()
    for transport in transports.values():
        transport.close()


def _flight_server(segment: Segment) -> Any:
    """Serves every block of the pool. None when pyarrow was built without Flight."""
    try:
        import pyarrow
        from pyarrow import flight
    except ImportError:
        return None
    size = segment.layout.full_block_bytes
    memory = pyarrow.py_buffer(segment.bytes)
    ends = pyarrow.py_buffer(np.array([0, size], np.int32))
    starts = [segment.slot_offset(slot) + segment.layout.header_bytes for slot in range(segment.num_slots)]

    class Server(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
        def do_get(self, context: Any, ticket: Any) -> Any:
            def batches() -> Iterator[Any]:
                for at in starts:
                    block = pyarrow.Array.from_buffers(pyarrow.binary(), 1, [None, ends, memory.slice(at, size)])
                    yield pyarrow.record_batch([block], ["block"])

            return flight.GeneratorStream(pyarrow.schema([("block", pyarrow.binary())]), batches())

    return Server("grpc://127.0.0.1:0")
