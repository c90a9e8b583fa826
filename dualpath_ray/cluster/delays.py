"""Calls that are due later: one thread for however many agents wait for their tools."""

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count


class Delays:
    """``after`` may be called from any thread; calls run on one thread of its own and must not block."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._closed = False
        threading.Thread(target=self._run, name="delays", daemon=True).start()

    def after(self, delay_s: float, call: Callable[[], object]) -> None:
        """Call it in so many seconds, unless ``close`` comes first."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), call))
            self._changed.notify()

    def close(self) -> None:
        """Forget what is still to come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or bool(self._due))
                if self._closed:
                    return
                due_s, _, call = self._due[0]
                if due_s > time.monotonic():
                    self._changed.wait(due_s - time.monotonic())
                    continue
                heapq.heappop(self._due)
            call()
