"""What every Transport promises; a new adapter joins TRANSPORTS."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import LayoutError, TransportError
from dualpath_ray.kv.layout import KvLayout
from tests.unit.transport.conftest import LAYOUT, OVER_TCP, STAGING, batch

UNIT = 8
ranges = st.lists(
    st.tuples(st.integers(0, STAGING // UNIT - 1), st.integers(0, STAGING // UNIT - 1)),
    max_size=40,
    unique_by=(lambda r: r[0], lambda r: r[1]),
)


def test_bytes_go_there_and_back(pair):
    mine, theirs = pair.mine, pair.theirs
    mine.full_block(1)[:] = 7
    start, size = mine.slot_offset(1) + LAYOUT.header_bytes, LAYOUT.full_block_bytes
    pair.transport.write("d0", batch((start, theirs.slot_offset(2) + LAYOUT.header_bytes, size)))
    assert (theirs.full_block(2) == 7).all() and not theirs.slots[1].any() and not theirs.slots[3].any()
    theirs.full_block(2)[1] = 8
    pair.transport.read("d0", batch((mine.staging_offset, theirs.slot_offset(2) + LAYOUT.layer_offset(1), 32)))
    assert (mine.staging[:32] == 8).all() and not mine.staging[32:].any()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ranges, st.booleans(), st.integers(0, 2**32))
def test_a_batch_copies_each_of_its_ranges(pair, ranges, write, seed):
    """Neighbours are joined, nothing else is touched."""
    mine, theirs = pair.mine, pair.theirs
    mine.staging[:], theirs.staging[:] = np.random.default_rng(seed).integers(0, 256, (2, STAGING), np.uint8)
    source, target = (mine, theirs) if write else (theirs, mine)
    expected, kept = target.staging.copy(), source.staging.copy()
    for local, remote in ranges:
        here, there = (local, remote) if write else (remote, local)
        expected[there * UNIT : there * UNIT + UNIT] = source.staging[here * UNIT : here * UNIT + UNIT]
    copies = batch(*((mine.staging_offset + a * UNIT, theirs.staging_offset + b * UNIT, UNIT) for a, b in ranges))
    (pair.transport.write if write else pair.transport.read)("d0", copies)
    assert (target.staging == expected).all() and (source.staging == kept).all()


def test_a_batch_of_more_ranges_than_a_system_call_takes(make_pair, transport_name):
    pair = make_pair(transport_name)
    pair.connect()
    mine, theirs = pair.mine, pair.theirs
    theirs.staging[:] = np.random.default_rng(0).integers(0, 256, STAGING, np.uint8)
    backwards = [(mine.staging_offset + i, theirs.staging_offset + STAGING - 1 - i, 1) for i in range(STAGING)]
    pair.transport.read("d0", batch(*backwards))
    assert (mine.staging == theirs.staging[::-1]).all()


def test_many_threads_may_copy_at_once(pair):
    mine, theirs = pair.mine, pair.theirs
    theirs.staging[:] = np.random.default_rng(1).integers(0, 256, STAGING, np.uint8)
    step = STAGING // 64

    def copy(part: int) -> None:
        at = part * step
        pair.transport.read("d0", batch((mine.staging_offset + at, theirs.staging_offset + at, step)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, list(range(64)) * 4))
    assert (mine.staging == theirs.staging).all()


def test_another_layout_is_refused_and_both_ends_are_named(make_pair, transport_name):
    pair = make_pair(transport_name, their_layout=KvLayout(9, 9, 9))
    with pytest.raises(LayoutError, match=r"p0 holds blocks \(2, 4, 8\) and d0 \(9, 9, 9\)"):
        pair.connect()


def test_an_unknown_peer_is_named(pair):
    with pytest.raises(TransportError, match="p0 is not connected to d7"):
        pair.transport.read("d7", batch((0, 0, 1)))


@pytest.mark.parametrize("write", [False, True])
def test_a_range_past_a_pools_end_is_an_error_that_names_both_ends(pair, write):
    copy = pair.transport.write if write else pair.transport.read
    for local, remote in (
        (pair.mine.staging_offset, len(pair.theirs.bytes) - UNIT // 2),
        (len(pair.mine.bytes) - UNIT // 2, pair.theirs.staging_offset),
        (-UNIT, pair.theirs.staging_offset),
    ):
        with pytest.raises(TransportError, match="between p0 and d0 failed: it reaches past a pool's end"):
            copy("d0", batch((local, remote, UNIT)))
    copy("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, UNIT)))
    assert os.fstat(pair.theirs.fd).st_size == len(pair.theirs.bytes)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("transport_name", ["sockets", "nixl", OVER_TCP], indirect=True)
def test_a_peer_that_dies_is_named_and_may_come_back(transport_name, make_pair, start_peer):
    """Where memory is shared there is nothing to notice: it outlives its owner."""
    pair = make_pair(transport_name)
    peer = start_peer(transport_name)
    pair.transport.connect("d0", peer.description)
    copies = batch((pair.mine.staging_offset, peer.segment.staging_offset, STAGING))
    pair.transport.read("d0", copies)
    os.kill(peer.process.pid, signal.SIGKILL)
    with pytest.raises(TransportError, match=r"p0.*d0"):
        while True:  # what was under way when it died may end well
            pair.transport.read("d0", copies)
    with pytest.raises(TransportError, match=r"p0.*d0"):
        pair.transport.connect("d0", peer.description)
    pair.mine.staging[:] = 0
    pair.transport.connect("d0", start_peer(transport_name).description)
    pair.transport.read("d0", copies)
    assert (pair.mine.staging == 7).all()


def test_closing_ends_the_copies_that_are_under_way(pair):
    """Each of them ends, well or as an error that names both ends, and what comes after is an error."""
    pair.theirs.staging[:] = 7
    copies = batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING))
    started = threading.Event()

    def copy() -> None:
        for _ in range(100_000):
            pair.transport.read("d0", copies)
            started.set()

    with ThreadPoolExecutor(4) as pool:
        copying = [pool.submit(copy) for _ in range(4)]
        started.wait()
        pair.transport.close()
        for done in copying:
            with pytest.raises(TransportError, match="p0.*d0"):
                done.result()


def test_a_batch_of_nothing_moves_nothing(pair):
    pair.theirs.staging[:] = 1
    at = pair.mine.staging_offset, pair.theirs.staging_offset
    for nothing in (batch(), batch((*at, 0)), batch((*at, 0), (at[0] + 9, at[1] + 8, 0), (at[0] + 1, at[1] + 4, 1))):
        pair.transport.read("d0", nothing)
    assert pair.mine.staging.nonzero()[0].tolist() == [1]
