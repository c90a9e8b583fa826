"""What every Transport promises (cases.py); a new adapter joins TRANSPORTS."""

import os
import signal
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualpath_ray.base.errors import LayoutError, TransportError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.transport.port import copier
from tests.unit.transport.cases import CASES, UNIT, copied
from tests.unit.transport.conftest import OVER_TCP, STAGING, TWO_AGENTS, batch

ranges = st.lists(
    st.tuples(st.integers(0, STAGING // UNIT - 1), st.integers(0, STAGING // UNIT - 1)),
    max_size=40,
    unique_by=(lambda r: r[0], lambda r: r[1]),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_promise(pair, case):
    case(pair)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ranges, st.booleans(), st.integers(0, 2**32))
def test_a_batch_copies_each_of_its_ranges(pair, ranges, write, seed):
    """Neighbours are joined, nothing else is touched."""
    copied(pair, *np.array(ranges, np.int64).reshape(-1, 2).T, write, seed)


def test_another_layout_is_refused_and_both_ends_are_named(make_pair, transport_name):
    pair = make_pair(transport_name, their_layout=KvLayout(9, 9, 9))
    with pytest.raises(LayoutError, match=r"p0 holds blocks \(2, 4, 8\) and d0 \(9, 9, 9\)"):
        pair.connect()


def test_bytes_go_from_pool_to_pool(make_pair, transport_name):
    """Neither end holds them in memory of Python's or numpy's meanwhile.

    What a library in C or the kernel keeps is not seen here: `dualpath bench transport` gives CPU time beside a memcpy's.
    """
    size = 8 << 20
    pair = make_pair(transport_name, staging=size)
    pair.connect()
    at = np.arange(0, size, size // 32)
    ranges = zip(
        (pair.mine.staging_offset + at).tolist(), (pair.theirs.staging_offset + at[::-1]).tolist(), strict=True
    )
    copies = batch(*((here, there, size // 32) for here, there in ranges))
    for copy in (pair.transport.read, pair.transport.write):
        copy("d0", copies)  # connections and their buffers come to be
        tracemalloc.start()
        try:
            copy("d0", copies)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < size // 64, "less than half a range"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("transport_name", ["sockets", "nixl", OVER_TCP, TWO_AGENTS], indirect=True)
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


def test_closing_ends_the_copies_that_are_under_way(transport_name, make_pair, start_peer):
    """Each of them ends, well or as an error that names both ends, and what comes after is an error.

    The peer is a process of its own: UCX may abort one whose peer goes away in the middle of a copy.
    """
    pair = make_pair(transport_name)
    peer = start_peer(transport_name)
    pair.transport.connect("d0", peer.description)
    copies = batch((pair.mine.staging_offset, peer.segment.staging_offset, STAGING))
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
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(TransportError, match="p0.*d0"),
    ):  # of a thread that had no copy yet
        pool.submit(pair.transport.read, "d0", copies).result()


def test_copies_of_every_class_move_the_same_bytes(pair):
    """Each way, through connections of their own where the transport has some."""
    for number, traffic_class in enumerate((TrafficClass.KV_CACHE, TrafficClass.KV_URGENT), 1):
        pair.theirs.staging[:] = number
        copies = batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING))
        copier(pair.transport)(traffic_class, "d0", copies, False)
        assert (pair.mine.staging == number).all()
        pair.mine.staging[:] = 10 * number
        copier(pair.transport)(traffic_class, "d0", copies, True)
        assert (pair.theirs.staging == 10 * number).all()
