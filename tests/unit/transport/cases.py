"""What every Transport promises, as plain functions of a connected pair: also for those that only Ray's actors can run."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dualpath_ray.base.errors import TransportError
from tests.unit.transport.conftest import LAYOUT, STAGING, batch

UNIT = 8


def bytes_go_there_and_back(pair: Any) -> None:
    mine, theirs = pair.mine, pair.theirs
    mine.full_block(1)[:] = 7
    theirs.slots[:] = 0
    mine.staging[:] = 0
    start, size = mine.slot_offset(1) + LAYOUT.header_bytes, LAYOUT.full_block_bytes
    pair.transport.write("d0", batch((start, theirs.slot_offset(2) + LAYOUT.header_bytes, size)))
    assert (theirs.full_block(2) == 7).all() and not theirs.slots[1].any() and not theirs.slots[3].any()
    theirs.full_block(2)[1] = 8
    pair.transport.read("d0", batch((mine.staging_offset, theirs.slot_offset(2) + LAYOUT.layer_offset(1), 32)))
    assert (mine.staging[:32] == 8).all() and not mine.staging[32:].any()


def each_range_is_copied_and_nothing_else(pair: Any) -> None:
    """Of scattered units and of neighbours, which are joined."""
    random = np.random.default_rng(0)
    for count, write in ((1, False), (7, True), (64, False), (64, True)):
        local, remote = (random.permutation(STAGING // UNIT)[:count] for _ in range(2))
        local[count // 2 :], remote[count // 2 :] = (np.arange(count - count // 2) + at for at in (100, 300))
        _, first = np.unique(remote if write else local, return_index=True)
        local, remote = local[np.sort(first)], remote[np.sort(first)]
        copied(pair, local, remote, write, int(random.integers(2**32)))


def copied(pair: Any, local: np.ndarray, remote: np.ndarray, write: bool, seed: int) -> None:
    """Args: local, remote: units of the staging zones, int64 [ranges]; no target stands there twice."""
    mine, theirs = pair.mine, pair.theirs
    mine.staging[:], theirs.staging[:] = np.random.default_rng(seed).integers(0, 256, (2, STAGING), np.uint8)
    source, target = (mine, theirs) if write else (theirs, mine)
    of, to = (local, remote) if write else (remote, local)
    expected, kept = target.staging.copy(), source.staging.copy()
    expected.reshape(-1, UNIT)[to] = source.staging.reshape(-1, UNIT)[of]
    ranges = zip(
        (mine.staging_offset + local * UNIT).tolist(), (theirs.staging_offset + remote * UNIT).tolist(), strict=True
    )
    (pair.transport.write if write else pair.transport.read)("d0", batch(*((a, b, UNIT) for a, b in ranges)))
    assert (target.staging == expected).all() and (source.staging == kept).all()


def thousands_of_single_bytes(pair: Any) -> None:
    """More than a system call takes."""
    mine, theirs = pair.mine, pair.theirs
    theirs.staging[:] = np.random.default_rng(0).integers(0, 256, STAGING, np.uint8)
    backwards = [(mine.staging_offset + i, theirs.staging_offset + STAGING - 1 - i, 1) for i in range(STAGING)]
    pair.transport.read("d0", batch(*backwards))
    assert (mine.staging == theirs.staging[::-1]).all()


def many_threads_at_once(pair: Any) -> None:
    mine, theirs = pair.mine, pair.theirs
    theirs.staging[:] = np.random.default_rng(1).integers(0, 256, STAGING, np.uint8)
    mine.staging[:] = 0
    step = STAGING // 64

    def copy(part: int) -> None:
        at = part * step
        pair.transport.read("d0", batch((mine.staging_offset + at, theirs.staging_offset + at, step)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(copy, list(range(64)) * 4))
    assert (mine.staging == theirs.staging).all()


def a_batch_of_nothing(pair: Any) -> None:
    pair.mine.staging[:], pair.theirs.staging[:] = 0, 1
    at = pair.mine.staging_offset, pair.theirs.staging_offset
    for nothing in (batch(), batch((*at, 0)), batch((*at, 0), (at[0] + 9, at[1] + 8, 0), (at[0] + 1, at[1] + 4, 1))):
        pair.transport.read("d0", nothing)
    assert pair.mine.staging.nonzero()[0].tolist() == [1]


def an_unknown_peer_is_named(pair: Any) -> None:
    with pytest.raises(TransportError, match="p0 is not connected to d7"):
        pair.transport.read("d7", batch((0, 0, 1)))


def a_range_past_a_pools_end_names_both_ends(pair: Any) -> None:
    """And the next copy goes well."""
    for copy in (pair.transport.read, pair.transport.write):
        for local, remote in (
            (pair.mine.staging_offset, len(pair.theirs.bytes) - UNIT // 2),
            (len(pair.mine.bytes) - UNIT // 2, pair.theirs.staging_offset),
            (-UNIT, pair.theirs.staging_offset),
        ):
            with pytest.raises(TransportError, match="between p0 and d0 failed: it reaches past a pool's end"):
                copy("d0", batch((local, remote, UNIT)))
        copy("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, UNIT)))
    assert os.fstat(pair.theirs.fd).st_size == len(pair.theirs.bytes)


CASES = [
    bytes_go_there_and_back,
    each_range_is_copied_and_nothing_else,
    thousands_of_single_bytes,
    many_threads_at_once,
    a_batch_of_nothing,
    an_unknown_peer_is_named,
    a_range_past_a_pools_end_names_both_ends,
]
