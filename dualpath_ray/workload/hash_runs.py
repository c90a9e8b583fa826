"""Block hashes written as runs: ``(first, count)`` stands for the hashes first .. first + count - 1."""

import numpy as np
from numpy.typing import NDArray

Run = tuple[int, int]


def expand(runs: list[Run]) -> NDArray[np.uint64]:
    """The hashes of all runs in order, uint64 [blocks]."""
    parts = [np.arange(first, first + count, dtype=np.uint64) for first, count in runs]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def shared_blocks(a: list[Run], b: list[Run]) -> int:
    """How many leading hashes two lists of runs have in common, without expanding them."""
    shared = i = j = used_a = used_b = 0
    while i < len(a) and j < len(b) and a[i][0] + used_a == b[j][0] + used_b:
        step = min(a[i][1] - used_a, b[j][1] - used_b)
        shared, used_a, used_b = shared + step, used_a + step, used_b + step
        if used_a == a[i][1]:
            i, used_a = i + 1, 0
        if used_b == b[j][1]:
            j, used_b = j + 1, 0
    return shared
