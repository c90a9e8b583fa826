"""All prefill engines in the order in which they are chosen: ``choose_prefill_engine`` in O(log engines) (section 6)."""

from dualpath_ray.scheduler.ledger import Group
from dualpath_ray.scheduler.ranking import Ranking
from dualpath_ray.scheduler.state import FetchLimits, GroupView


class PrefillPool:
    """Engines on nodes with a short read queue, and the others, each by least tok_e."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._short: Ranking[str] = Ranking()
        self._long: Ranking[str] = Ranking()
        self._group_of: dict[str, Group] = {}
        self._engines_of: dict[str, list[str]] = {}
        self._is_long: dict[str, bool] = {}  # by group
        self._groups: dict[str, Group] = {}
        self._views: dict[str, GroupView] = {}
        self._all_views: tuple[GroupView, ...] | None = None

    def update(self, group: Group) -> None:
        """A group is new, or its loads are others."""
        group_id = group.group_id
        self._groups[group_id] = group
        engines = list(group.loads)
        for gone in set(self._engines_of.get(group_id, ())) - set(engines):
            self._forget(gone)
        self._engines_of[group_id] = engines
        for engine_id in engines:
            self._group_of[engine_id] = group
        self._rank_all(group)
        self._changed(group)

    def remove(self, group: Group) -> None:
        """A group has died."""
        for engine_id in self._engines_of.pop(group.group_id, ()):
            self._forget(engine_id)
        for known in (self._is_long, self._groups, self._views):
            known.pop(group.group_id, None)
        self._all_views = None

    def best(self) -> tuple[Group, str] | None:
        """Group and engine that ``choose_prefill_engine`` would choose; None when every engine is over beta."""
        for ranking in (self._short, self._long):
            engine_id = ranking.first()
            if engine_id is not None:
                group = self._group_of[engine_id]
                if group.loads[engine_id].unfinished_tokens <= self._limits.max_unfinished_tokens:
                    return group, engine_id
        return None

    def assigned(self, group: Group, engine_id: str) -> None:
        """This engine has been given something."""
        if self._is_long[group.group_id] is self._has_long_queue(group):
            self._rank(group, engine_id)
        else:
            self._rank_all(group)
        self._changed(group)

    def views(self) -> tuple[GroupView, ...]:
        """Loads of every group."""
        if self._all_views is None:
            self._all_views = tuple(self._views.values())
        return self._all_views

    def _changed(self, group: Group) -> None:
        self._views[group.group_id] = group.view()
        self._all_views = None

    def _has_long_queue(self, group: Group) -> bool:
        return group.node.read_queue_tokens > self._limits.short_read_queue_tokens

    def _rank_all(self, group: Group) -> None:
        self._is_long[group.group_id] = self._has_long_queue(group)
        for engine_id in group.loads:
            self._rank(group, engine_id)

    def _rank(self, group: Group, engine_id: str) -> None:
        load = group.loads[engine_id]
        into, out_of = (self._long, self._short) if self._is_long[group.group_id] else (self._short, self._long)
        out_of.discard(engine_id)
        into.set(engine_id, (load.unfinished_tokens, load.num_unfinished, engine_id))

    def _forget(self, engine_id: str) -> None:
        self._short.discard(engine_id)
        self._long.discard(engine_id)
        self._group_of.pop(engine_id, None)
