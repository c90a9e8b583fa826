"""Which nodes come and which go when a system is scaled. Pure."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from dualpath_ray.base.types import Role, node_name


@dataclass(frozen=True, slots=True)
class Change:
    """``leave`` first: what they free may be what ``join`` needs."""

    leave: tuple[str, ...]
    join: tuple[tuple[str, Role], ...]


def change(
    present: Mapping[Role, Sequence[str]], wanted: Mapping[Role, int], drained: Set[str] = frozenset()
) -> Change:
    """From the nodes that are there to so many of each role.

    Those leave first that get no work already, then those with the highest numbers; who joins takes the lowest free number.
    """
    leave: list[str] = []
    join: list[tuple[str, Role]] = []
    for role, num in wanted.items():
        nodes = present[role]
        first_to_go = sorted(nodes, key=lambda node: (node not in drained, -node_number(node)))
        going = first_to_go[: max(0, len(nodes) - num)]
        leave += going
        names = (node_name(role, index) for index in range(len(nodes) + num))
        free = [name for name in names if name not in nodes or name in going]
        join += [(name, role) for name in free[: max(0, num - len(nodes))]]
    return Change(tuple(leave), tuple(join))


def node_number(node: str) -> int:
    """Of a logical node: 3 of d3."""
    return int(node[1:])
