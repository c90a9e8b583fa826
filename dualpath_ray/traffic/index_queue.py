"""Calls to the block index, many keys at a time: never a call a block, however fast blocks come."""

from collections.abc import Callable
from typing import Any

from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.effects import OpDone


class IndexQueue:
    """What comes while a call is out goes along with the next one.

    Args: method: of the index; it takes a list of what ``add`` got; answered: is told each call's items and its outcome.
    """

    def __init__(
        self,
        context: NodeContext,
        method: str,
        answered: Callable[[list[Any], OpDone], None] = lambda items, event: None,
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
            self._answered(items, event)
            self._send()

        self._context.index(self._method, items, done=done)
