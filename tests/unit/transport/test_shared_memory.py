"""Copies between the pools of two nodes."""

import os
import secrets
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError, LayoutError, TransportError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch
from dualpath_ray.transport.shared_memory import SharedMemoryTransport

LAYOUT = KvLayout(num_layers=2, block_tokens=4, bytes_per_token_layer=8)


def batch(*ranges: tuple[int, int, int]) -> CopyBatch:
    return CopyBatch(*np.array(ranges, np.int64).reshape(-1, 3).T)


@pytest.fixture
def nodes():
    """Segments of p0 and d0, d0's of 4 slots, and p0's transport."""
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    one, other = (Segment.create(segment_path(system, n), LAYOUT, 4, 500, "node.pe_buffer_bytes") for n in ("p0", "d0"))
    transport = transport_factory("shared_memory")("p0", one)
    yield one, other, transport
    transport.close()
    sweep(system)
    for segment in (one, other):
        os.close(segment.fd)


def test_bytes_go_there_and_back(nodes):
    one, other, transport = nodes
    transport.connect("d0", SharedMemoryTransport("d0", other).describe())
    one.full_block(1)[:] = 7
    start, size = one.slot_offset(1) + LAYOUT.header_bytes, LAYOUT.full_block_bytes
    transport.write("d0", batch((start, other.slot_offset(2) + LAYOUT.header_bytes, size)))
    assert (other.full_block(2) == 7).all() and not other.slots[1].any() and not other.slots[3].any()
    other.full_block(2)[1] = 8
    transport.read("d0", batch((one.staging_offset, other.slot_offset(2) + LAYOUT.layer_offset(1), 32)))
    assert (one.staging[:32] == 8).all() and not one.staging[32:].any()


ranges = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12, unique_by=(lambda r: r[0], lambda r: r[1])
)


@given(ranges, st.booleans())
def test_a_batch_copies_each_of_its_ranges(ranges, write):
    """Neighbours are joined, nothing else is touched."""
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    one, other = (Segment.create(segment_path(system, n), LAYOUT, 1, 104, "node.pe_buffer_bytes") for n in ("p0", "d0"))
    transport = SharedMemoryTransport("p0", one)
    try:
        transport.connect("d0", SharedMemoryTransport("d0", other).describe())
        random = np.random.default_rng(0)
        one.staging[:], other.staging[:] = random.integers(0, 256, (2, 104), np.uint8)
        source, target = (one, other) if write else (other, one)
        expected = target.staging.copy()
        for local, remote in ranges:
            at = {"local": slice(local * 8, local * 8 + 8), "remote": slice(remote * 8, remote * 8 + 8)}
            here, there = ("local", "remote") if write else ("remote", "local")
            expected[at[there]] = source.staging[at[here]]
        copies = batch(*((one.staging_offset + a * 8, other.staging_offset + b * 8, 8) for a, b in ranges))
        (transport.write if write else transport.read)("d0", copies)
        assert (target.staging == expected).all()
        assert copies.merged().total_bytes == copies.total_bytes == 8 * len(ranges)
    finally:
        transport.close()
        sweep(system)
        for segment in (one, other):
            os.close(segment.fd)


def test_neighbours_are_joined():
    merged = batch((0, 100, 10), (10, 110, 5), (15, 120, 5), (40, 125, 5), (45, 130, 5)).merged()
    assert merged.local.tolist() == [0, 15, 40]
    assert merged.remote.tolist() == [100, 120, 125]
    assert merged.nbytes.tolist() == [15, 5, 10]


def test_another_layout_is_refused(nodes):
    _, _, transport = nodes
    theirs = f"{socket.gethostname()}\n/dev/shm/x\n(9, 9, 9)".encode()
    with pytest.raises(LayoutError, match=r"p0 holds blocks \(2, 4, 8\) and d0 \(9, 9, 9\)"):
        transport.connect("d0", theirs)


def test_another_host_is_refused(nodes):
    _, _, transport = nodes
    with pytest.raises(TransportError, match="transport shared_memory needs one host"):
        transport.connect("d0", f"elsewhere.example\n/dev/shm/x\n{LAYOUT.shape}".encode())


def test_an_unknown_or_vanished_peer_is_named(nodes):
    _, other, transport = nodes
    with pytest.raises(TransportError, match="p0 is not connected to d7"):
        transport.read("d7", batch((0, 0, 1)))
    description = SharedMemoryTransport("d0", other).describe()
    other.unlink()
    with pytest.raises(TransportError, match="p0 cannot open the pool of d0: No such file"):
        transport.connect("d0", description)


def test_a_range_past_the_peers_end_is_an_error(nodes):
    _, other, transport = nodes
    transport.connect("d0", SharedMemoryTransport("d0", other).describe())
    with pytest.raises(TransportError, match="ended after 0 of 8 bytes"):
        transport.read("d0", batch((0, len(other.bytes), 8)))


def test_transports_by_name(nodes):
    one, _, _ = nodes
    named = transport_factory("dualpath_ray.transport.shared_memory:SharedMemoryTransport")("p0", one)
    assert named.name == "shared_memory"
    with pytest.raises(ConfigError, match="transport: 'pigeon' is no transport"):
        transport_factory("pigeon")
    with pytest.raises(ConfigError, match="transport: 'no_such:thing' cannot be imported"):
        transport_factory("no_such:thing")
