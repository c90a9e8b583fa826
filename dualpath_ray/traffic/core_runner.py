"""Feeds a node's core: events one at a time, from whichever thread has them, and a Tick when the core wants one."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from dualpath_ray.base.errors import DualPathError, TransportError
from dualpath_ray.traffic.effects import Effect, Event, Tick


class Core(Protocol):
    """What is run (``traffic/core.py``)."""

    def handle(self, event: Event, now_s: float) -> Iterable[Effect]: ...

    def next_deadline_s(self) -> float | None: ...

    def status(self, now_s: float) -> dict[str, Any]: ...


class CoreRunner:
    """Has a thread of its own, which sleeps until the core's next deadline."""

    def __init__(
        self, core: Core, who: str, execute: Callable[[Effect], None], on_failure: Callable[[DualPathError], None]
    ) -> None:
        """Args: who: of the core, for errors; execute: an effect; on_failure: gets the reason when nothing is run any more."""
        self._core, self._who, self._execute, self._on_failure = core, who, execute, on_failure
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._at_once: deque[Event] = deque()
        self._turn = threading.Lock()  # of who is with the core
        self._deadline_s: float | None = None  # when it wants to hear a Tick
        self._over: DualPathError | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="traffic-core", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether nothing is run any more."""
        return self._over is not None

    def put(self, event: Event) -> None:
        """Soon, in the runner's thread."""
        if self._over is None:  # nobody would take it
            self._events.put(event)

    def at_once(self, event: Event) -> None:
        """From ``execute``: what came of an effect while it was carried out."""
        self._at_once.append(event)

    def take(self, event: Event) -> None:
        """Now, in the caller's thread: who waits for the answer waits for no other thread to wake up."""
        with self._turn:
            if self._over is not None:
                return
            try:
                self._at_once.append(event)
                while self._at_once:
                    for effect in self._core.handle(self._at_once.popleft(), time.monotonic()):
                        self._execute(effect)
                before_s, self._deadline_s = self._deadline_s, self._core.next_deadline_s()
            except Exception as error:
                if self._stopping:  # in the middle of something that ends with its links
                    return
                self._end(TransportError(f"{self._who} failed: {error!r}"))
                raise
            if threading.current_thread() is not self._thread and _sooner(self._deadline_s, before_s):
                self._events.put(Tick())  # its thread sleeps for longer

    def status(self) -> dict[str, Any]:
        """Raises: TransportError when nothing is run any more."""
        with self._turn:
            if self._over is not None:
                raise self._over
            return self._core.status(time.monotonic())

    def stop(self) -> None:
        """Take no more events."""
        self._stopping = True
        self._over = self._over or TransportError(f"{self._who} has ended")
        self._events.put(None)

    def _run(self) -> None:
        event: Event | None = Tick()
        while event is not None:
            self.take(event)
            event = next_event(self._events, self._deadline_s)

    def _end(self, reason: DualPathError) -> None:
        self._over = reason
        self._events.put(None)
        self._on_failure(reason)


def next_event(events: "queue.SimpleQueue[Event | None]", deadline_s: float | None) -> Event | None:
    """What comes next, or a Tick at a core's deadline. Args: deadline_s: of the monotonic clock; None waits for what comes."""
    try:
        if deadline_s is None:
            return events.get()
        return events.get(timeout=max(0.0, deadline_s - time.monotonic()))
    except queue.Empty:
        return Tick()


def _sooner(deadline_s: float | None, before_s: float | None) -> bool:
    return deadline_s is not None and (before_s is None or deadline_s < before_s)
