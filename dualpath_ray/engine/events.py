"""What an engine has to say to its clients, kept until they ask."""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.base.types import CLIENT_SILENT_S
from dualpath_ray.engine.request import StepEvent

_MOST_FACTS = 10_000
_ASKS_S = 15.0


class EventBuffer:
    """Per client a queue of step events; ``poll`` waits for the next ones.

    A client that has not asked for ``CLIENT_SILENT_S`` is taken for dead: it must not eat the engine's memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._events: dict[str, list[StepEvent]] = defaultdict(list)
        self._heard_s: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self.facts: OrderedDict[str, dict[str, Any]] = OrderedDict()  # of the last requests that ended here

    def emit(self, client_id: str, event: StepEvent) -> None:
        with self._changed:
            if event.finished and event.facts:
                self.facts[event.request_id] = dict(event.facts)
                if len(self.facts) > _MOST_FACTS:
                    self.facts.popitem(last=False)
            now = self._clock()
            self._heard_s.setdefault(client_id, now)
            for client in [c for c, heard in self._heard_s.items() if now - heard > CLIENT_SILENT_S]:
                del self._heard_s[client]
                self._events.pop(client, None)
                self._forgotten.add(client)
            if client_id not in self._forgotten:
                self._events[client_id].append(event)
                self._changed.notify_all()

    @property
    def num_waiting(self) -> int:
        """Events of clients that ask: one asks every second."""
        with self._changed:
            asking = self._clock() - _ASKS_S
            return sum(
                len(events) for client, events in self._events.items() if self._heard_s.get(client, 0.0) >= asking
            )

    def poll(self, client_id: str, wait_s: float) -> list[StepEvent]:
        """All events of this client so far, each told once; waits at most ``wait_s`` for one.

        Raises: SystemDiedError when the client was silent for so long that its events are gone.
        """
        with self._changed:
            if client_id in self._forgotten:
                raise SystemDiedError(f"client {client_id} was silent for over {CLIENT_SILENT_S:g} s: connect again")
            self._heard_s[client_id] = self._clock()
            self._changed.wait_for(lambda: client_id in self._events or client_id not in self._heard_s, wait_s)
            if client_id not in self._heard_s:  # it has left
                return []
            self._heard_s[client_id] = self._clock()
            return self._events.pop(client_id, [])

    def knows(self, client_id: str) -> bool:
        """Whether it has asked, or has something to hear, and has not left."""
        with self._changed:
            return client_id in self._heard_s

    def leave(self, client_id: str) -> None:
        """This client asks no more: what waits for it is dropped, and its poll ends."""
        with self._changed:
            self._heard_s.pop(client_id, None)
            self._events.pop(client_id, None)
            self._forgotten.add(client_id)
            self._changed.notify_all()
