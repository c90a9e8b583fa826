"""Two nodes with a pool each, and every transport between them."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


@pytest.fixture
def make_pair() -> Iterator[MakePair]:
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    made: list[Pair] = []

    def make(transport: str, their_layout: KvLayout = LAYOUT) -> Pair:
        mine = Segment.create(segment_path(system, f"p{len(made)}"), LAYOUT, 4, STAGING, "node.pe_buffer_bytes")
        theirs = Segment.create(segment_path(system, f"d{len(made)}"), their_layout, 4, STAGING, "node.de_buffer_bytes")
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


TRANSPORTS = ["auto", "shared_memory", "sockets", "dualpath_ray.examples.descriptor_transport:DescriptorTransport"]


@pytest.fixture(params=TRANSPORTS)
def transport_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def pair(transport_name: str, make_pair: MakePair) -> Pair:
    pair = make_pair(transport_name)
    pair.connect()
    return pair
