"""What an engine has to say to its clients, kept until they ask."""

import threading
from collections import defaultdict

from dualpath_ray.engine.request import StepEvent

MAX_KEPT = 1_000_000  # a client that never asks again must not eat the engine's memory


class EventBuffer:
    """Per client a queue of step events; ``poll`` waits for the next ones."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: dict[str, list[StepEvent]] = defaultdict(list)

    def emit(self, client_id: str, event: StepEvent) -> None:
        with self._changed:
            kept = self._events[client_id]
            if len(kept) < MAX_KEPT:
                kept.append(event)
            self._changed.notify_all()

    def poll(self, client_id: str, wait_s: float) -> list[StepEvent]:
        """All events of this client so far, each told once; waits at most ``wait_s`` for one."""
        with self._changed:
            self._changed.wait_for(lambda: client_id in self._events, wait_s)
            return self._events.pop(client_id, [])
