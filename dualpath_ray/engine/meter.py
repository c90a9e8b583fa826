"""What a batch's KV took: time per layer, and bytes outside the pool."""

import threading
import weakref
from dataclasses import dataclass, field

import numpy as np


@dataclass(slots=True)
class LayerTimes:
    """When each layer of a batch was on its way (CNIC and H2D) and computed, seconds of the monotonic clock."""

    load: list[tuple[float, float]] = field(default_factory=list)
    compute: list[tuple[float, float]] = field(default_factory=list)
    stall_s: float = 0.0  # the compute thread waited for a layer that was not here yet

    def overlapped_pairs(self) -> tuple[int, int]:
        """(adjacent layer pairs whose second was on its way while the first computed, pairs)."""
        pairs = list(zip(self.load[1:], self.compute[:-1], strict=False))
        return sum(load[0] < compute[1] and load[1] > compute[0] for load, compute in pairs), len(pairs)


class KvMeter:
    """Bytes of KV that the engine holds outside the pool, now and at most: of arrays that anything still refers to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an array may be freed by the thread that counts another
        self.now_bytes = 0
        self.peak_bytes = 0

    def array(self, *shape: int) -> np.ndarray:
        """A new uint8 array that counts until it is freed."""
        made = np.empty(shape, np.uint8)
        self.add(made.nbytes)
        weakref.finalize(made, self.add, -made.nbytes).atexit = False
        return made

    def add(self, nbytes: int) -> None:
        """Count memory that somebody else holds; negative when it is given back."""
        with self._lock:
            self.now_bytes += nbytes
            self.peak_bytes = max(self.peak_bytes, self.now_bytes)
