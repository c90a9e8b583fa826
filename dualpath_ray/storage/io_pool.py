"""Blocking reads and writes of a store in threads, as many at a time as the store rewards (``depth.py``)."""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from dualpath_ray.storage.depth import AdaptiveDepth

_Work = tuple[Callable[[], Any], int, Future[Any]]


class IoPool:
    """Begins work in the order it was given, ``depth`` of it at a time."""

    def __init__(self, name: str, least: int, most: int) -> None:
        """Args: least, most: bounds of the number in flight; equal ones fix it."""
        self._threads = ThreadPoolExecutor(most, name)  # it starts a thread only when there is work for one more
        self._depth = AdaptiveDepth(least, most)
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()
        self._busy = 0
        self._closed = False

    @property
    def depth(self) -> int:
        """How many may be in flight now."""
        return self._depth.value

    def submit(self, work: Callable[[], Any], nbytes: int) -> Future[Any]:
        """Have ``work`` done, which moves ``nbytes``. Returns: what is done with its result, or fails as it did."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                future.cancel()
            else:
                self._waiting.append((work, nbytes, future))
                self._begin()
        return future

    def close(self) -> None:
        """End the threads once they have done what they are at; what waits is cancelled, and so is what comes later."""
        with self._lock:
            self._closed = True
            for _, _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
        self._threads.shutdown()

    def _begin(self) -> None:
        """Put threads to what there is room for. The lock is held."""
        while self._waiting and self._busy < self._depth.value:
            self._busy += 1
            self._threads.submit(self._work, self._waiting.popleft())

    def _work(self, item: _Work | None) -> None:
        """What one thread does: it goes on with what waits itself, for to wake another would cost time between two blocks."""
        while item is not None:
            work, nbytes, future = item
            result, error = None, None
            try:
                result = work()
            except Exception as failure:  # whoever waits must hear of it, and the next be begun
                error = failure
            with self._lock:
                self._busy -= 1
                self._depth.done(nbytes, time.monotonic(), bool(self._waiting))
                item = None
                if self._waiting and self._busy < self._depth.value:
                    self._busy += 1
                    item = self._waiting.popleft()
                self._begin()
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
