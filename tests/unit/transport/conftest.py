"""Two nodes with a pool each, and every transport between them."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch, Transport

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)
STAGING = 4096


def batch(*ranges: tuple[int, int, int]) -> CopyBatch:
    return CopyBatch(*np.array(ranges, np.int64).reshape(-1, 3).T)


def without_nixl(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nixl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nixl", None)  # as Python marks a module that cannot be imported


@dataclass
class Pair:
    """p0, which drives the copies, and d0."""

    mine: Segment
    theirs: Segment
    transport: Transport
    peer: Transport

    def connect(self) -> None:
        self.transport.connect("d0", self.peer.describe())


MakePair = Callable[..., Pair]


@dataclass
class Elsewhere:
    """d0 as a process of its own, whose pool holds ``STAGING`` bytes of 7."""

    process: BaseProcess
    description: bytes
    segment: Segment


def _hold(pipe: Connection, transport: str, path: Path) -> None:
    segment = Segment.create(path, LAYOUT, 4, STAGING, "node.de_buffer_bytes")
    segment.staging[:] = 7
    held = transport_factory(transport)("d0", segment)
    pipe.send(held.describe())
    with suppress(EOFError):
        pipe.recv()


@pytest.fixture
def start_peer() -> Iterator[Callable[[str], Elsewhere]]:
    """Starts d0 with a transport, in a process that ends with the test."""
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    context, started = get_context("spawn"), []

    def start(transport: str) -> Elsewhere:
        path = segment_path(system, f"d{len(started)}")
        pipe, its_pipe = context.Pipe()
        process = context.Process(target=_hold, args=(its_pipe, transport, path), daemon=True)
        process.start()
        started.append((process, pipe))
        assert pipe.poll(60)
        return Elsewhere(process, pipe.recv(), Segment.attach(path))

    yield start
    for process, _ in started:
        process.kill()
        process.join()
    sweep(system)


@pytest.fixture
def make_pair() -> Iterator[MakePair]:
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    made: list[Pair] = []

    def make(transport: str, their_layout: KvLayout = LAYOUT, staging: int = STAGING) -> Pair:
        mine = Segment.create(segment_path(system, f"p{len(made)}"), LAYOUT, 4, staging, "node.pe_buffer_bytes")
        theirs = Segment.create(segment_path(system, f"d{len(made)}"), their_layout, 4, staging, "node.de_buffer_bytes")
        factory = transport_factory(transport)
        made.append(Pair(mine, theirs, factory("p0", mine), factory("d0", theirs)))
        return made[-1]

    yield make
    for pair in made:
        for transport in (pair.transport, pair.peer):
            transport.close()
        for segment in (pair.mine, pair.theirs):
            os.close(segment.fd)
    sweep(system)


OVER_TCP, TWO_AGENTS = "nixl over TCP", "nixl over TCP, an agent for each class"
_SPECS = {OVER_TCP: "nixl", TWO_AGENTS: "tests.unit.transport.two_agents:nixl_of_two_agents"}
TRANSPORTS = [
    "auto",
    "shared_memory",
    "sockets",
    "nixl",
    OVER_TCP,
    TWO_AGENTS,
    "dualpath_ray.examples.descriptor_transport:DescriptorTransport",
]


@pytest.fixture(params=TRANSPORTS)
def transport_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name.startswith("nixl"):
        pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    if name in (
        OVER_TCP,
        TWO_AGENTS,
    ):  # as between hosts; UCX reads it when an agent is made, and so do the processes of a test
        monkeypatch.setenv("UCX_TLS", "tcp,self")
    return _SPECS.get(name, name)


@pytest.fixture
def pair(transport_name: str, make_pair: MakePair) -> Pair:
    pair = make_pair(transport_name)
    pair.connect()
    return pair
