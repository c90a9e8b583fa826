"""All prefill engines in the order in which they are chosen: ``choose_prefill_engine`` in O(log engines) (section 6)."""

from dualpath_ray.scheduler.ledger import Group
from dualpath_ray.scheduler.ranking import Ranking
from dualpath_ray.scheduler.state import EngineLoad, FetchLimits

_Entry = tuple[int, int, str]  # tok_e, seq_e, engine


class PrefillPool:
    """Engines on nodes with a short read queue, and the others, each by least tok_e."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._short: Ranking[_Entry] = Ranking()
        self._long: Ranking[_Entry] = Ranking()
        self._group_of: dict[str, Group] = {}  # by engine
        self._engines_of: dict[str, list[str]] = {}  # by group
        self._is_long: dict[str, bool] = {}  # by group

    def update(self, group: Group) -> None:
        """A group is new, or its loads are others."""
        known, engines = self._engines_of.get(group.group_id), list(group.loads)
        if engines != known:
            for gone in set(known or ()) - set(engines):
                self._forget(gone)
            self._engines_of[group.group_id] = engines
            for engine_id in engines:
                self._group_of[engine_id] = group
        self._rank_all(group)

    def remove(self, group: Group) -> None:
        """A group has died."""
        for engine_id in self._engines_of.pop(group.group_id, ()):
            self._forget(engine_id)
        self._is_long.pop(group.group_id, None)

    def best(self) -> tuple[Group, str] | None:
        """Group and engine that ``choose_prefill_engine`` would choose; None when every engine is over beta."""
        most = self._limits.max_unfinished_tokens
        first = self._short.first()
        if first is None or first[0] > most:
            first = self._long.first()
            if first is None or first[0] > most:
                return None
        return self._group_of[first[2]], first[2]

    def assigned(self, group: Group, load: EngineLoad) -> None:
        """An engine has been given something, and this is its load now."""
        is_long = self._has_long_queue(group)
        if self._is_long[group.group_id] is is_long:
            ranking = self._long if is_long else self._short
            ranking.set((load.unfinished_tokens, load.num_unfinished, load.engine_id))
        else:
            self._rank_all(group)

    def _has_long_queue(self, group: Group) -> bool:
        return group.node.read_queue_tokens > self._limits.short_read_queue_tokens

    def _rank_all(self, group: Group) -> None:
        is_long = self._has_long_queue(group)
        into, out_of = (self._long, self._short) if is_long else (self._short, self._long)
        if self._is_long.get(group.group_id) is not is_long:
            self._is_long[group.group_id] = is_long
            for engine_id in group.loads:
                out_of.discard(engine_id)
        for load in group.loads.values():
            into.set((load.unfinished_tokens, load.num_unfinished, load.engine_id))

    def _forget(self, engine_id: str) -> None:
        self._short.discard(engine_id)
        self._long.discard(engine_id)
        self._group_of.pop(engine_id, None)
