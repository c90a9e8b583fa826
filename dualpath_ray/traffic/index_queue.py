"""Calls to the block index, many keys at a time: never a call a block, however fast blocks come."""

from collections.abc import Callable
from typing import Any

from dualpath_ray.base.errors import StorageError
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.effects import OpDone


class IndexQueue:
    """What comes while a call is out goes along with the next one. A call that fails ends the system.

    Args: method: of the index; it takes a list of what ``add`` got. answered: is told the result of each call.
    """

    def __init__(
        self, context: NodeContext, method: str, answered: Callable[[Any], None] = lambda result: None
    ) -> None:
        self._context, self._method, self._answered = context, method, answered
        self._waiting: list[Any] = []
        self._out = False

    def add(self, *items: Any) -> None:
        """Queue items; they leave at once when no call is out."""
        self._waiting += items
        self._send()

    def _send(self) -> None:
        if self._out or not self._waiting:
            return
        items, self._waiting = self._waiting, []
        self._out = True

        def done(event: OpDone) -> None:
            self._out = False
            if event.error is not None:
                self._context.fail(StorageError(f"the block index does not answer: {event.error}"))
                return
            self._answered(event.result)
            self._send()

        self._context.index(self._method, items, done=done)
