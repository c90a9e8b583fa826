from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import Role
from dualpath_ray.cluster.membership import change, node_number

numbers = st.sets(st.integers(0, 8), max_size=6)


@given(prefill=numbers, decode=numbers, wanted=st.tuples(st.integers(1, 8), st.integers(1, 8)), data=st.data())
def test_what_stays_and_what_joins_is_as_many_as_wanted(prefill, decode, wanted, data):
    present = {Role.PREFILL: [f"p{i}" for i in sorted(prefill)], Role.DECODE: [f"d{i}" for i in sorted(decode)]}
    everyone = [*present[Role.PREFILL], *present[Role.DECODE]]
    drained = data.draw(st.sets(st.sampled_from(everyone))) if everyone else set()
    to_do = change(present, dict(zip(Role, wanted, strict=True)), drained)
    for role, num in zip(Role, wanted, strict=True):
        left = [node for node in present[role] if node not in to_do.leave]
        joined = [node for node, its_role in to_do.join if its_role is role]
        assert len(left) + len(joined) == num and not set(left) & set(joined)
        assert not (set(present[role]) & set(to_do.leave) and joined), "nobody leaves a role that somebody joins"
        working_left = [node for node in present[role] if node in to_do.leave and node not in drained]
        assert not working_left or not set(left) & drained, "who works goes after those that do not"
        assert all(node_number(gone) > node_number(stays) for gone in working_left for stays in left)


def test_the_lowest_free_number_is_given():
    to_do = change({Role.PREFILL: ["p0", "p2"], Role.DECODE: ["d0"]}, {Role.PREFILL: 4, Role.DECODE: 1})
    assert to_do.join == (("p1", Role.PREFILL), ("p3", Role.PREFILL)) and to_do.leave == ()
