"""The loads of all groups as they change, kept so that what a decision was made on can be looked at again.

A decision remembers a place in this history, in place of a copy of the loads of every group.
"""

from dataclasses import dataclass, field
from typing import Any

from dualpath_ray.scheduler.state import EngineLoad, GroupView, NodeLoad

FULL = 1024  # changes after which a history starts anew

AfterAssignment = tuple[
    str, NodeLoad, EngineLoad
]  # a group; its node and one of its engines, as they were from then on


@dataclass(slots=True)
class LoadHistory:
    """Every group at a moment and, in order, the changes since: a group as reported, or after something was assigned.

    Of the reports between two decisions only a group's last one counts, and only that is kept.
    """

    prefill: dict[str, GroupView]
    decode: dict[str, GroupView]
    changes: list[GroupView | AfterAssignment] = field(default_factory=list)
    _reported: dict[str, GroupView] = field(default_factory=dict)  # since the last moment

    def __reduce__(self) -> tuple[Any, ...]:
        """Whoever sends a decision away does so while more is reported: what moves stays here, and a copy goes."""
        return LoadHistory, (self.prefill, self.decode, list(self.changes))

    def report(self, view: GroupView) -> None:
        """A group has reported."""
        self._reported[view.group_id] = view

    def moment(self, decode_group: str) -> "Moment":
        """What is known now."""
        self.changes += self._reported.values()
        self._reported.clear()
        return Moment(self, len(self.changes), decode_group)

    def assign(self, *changes: AfterAssignment) -> None:
        """Something was assigned at the last moment."""
        self.changes += changes


@dataclass(slots=True, eq=False)  # not frozen: one is made for every decision, and frozen ones take three times as long
class Moment:
    """The loads that a decision was made on: what stood in a history after so many changes."""

    history: LoadHistory
    num_changes: int
    decode_group: str

    def views(self) -> tuple[GroupView, tuple[GroupView, ...]]:
        """The decode group; and every prefill group."""
        history = self.history
        views = {**history.prefill, self.decode_group: history.decode[self.decode_group]}
        for change in history.changes[: self.num_changes]:
            view = views.get(change[0])
            if view is None:
                continue
            views[change[0]] = change if isinstance(change, GroupView) else _after(view, change)
        return views.pop(self.decode_group), tuple(views.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and self.views() == other.views()


def _after(view: GroupView, change: AfterAssignment) -> GroupView:
    group_id, node, load = change
    engines = tuple(load if engine.engine_id == load.engine_id else engine for engine in view.engines)
    return GroupView(group_id, node, engines)
