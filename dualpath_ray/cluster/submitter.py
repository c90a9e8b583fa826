"""Requests on their way to the scheduler: what comes within an interval goes in one call.

The scheduler's time is spent on calls, not on requests (ARCHITECTURE, "At scale"). The first request after a pause goes at
once.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from dualpath_ray.scheduler.state import Request


class Submitter:
    """Calls ``submit`` from a thread of its own, in order, at most once every ``interval_s``."""

    def __init__(self, submit: Callable[[list[Request]], None], interval_s: float) -> None:
        """Args: submit: blocks until the scheduler has the requests, or raises."""
        self._submit, self._interval_s = submit, interval_s
        self._changed = threading.Condition()
        self._waiting: list[tuple[Request, Future[None]]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="submit", daemon=True)
        self._thread.start()

    def put(self, request: Request) -> "Future[None]":
        """Submit a request. Returns: what is done when the scheduler has it, or fails as the call did."""
        done: Future[None] = Future()
        with self._changed:
            self._waiting.append((request, done))
            self._changed.notify()
        return done

    def close(self) -> None:
        """Send what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        next_s = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(lambda: self._closed, next_s - time.monotonic())
                some, self._waiting = self._waiting, []
                if not some:
                    return
            next_s = time.monotonic() + self._interval_s
            error: Exception | None = None
            try:
                self._submit([request for request, _ in some])
            except Exception as failure:  # whatever it is, whoever waits must hear of it, and the next call be made
                error = failure
            for _, done in some:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
