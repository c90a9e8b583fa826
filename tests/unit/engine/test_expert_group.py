"""Engines that exchange model-execution traffic over gloo."""

import pytest

from dualpath_ray.engine.expert_round import GroupPlace, splits
from tests.unit.engine.expert_members import members_of, stop

NODES = ("d0", "d0", "d1")


@pytest.fixture
def members():
    made = members_of(NODES, "cpu")
    yield made
    stop(made)


def test_bursts_of_any_member_go_through_whatever_the_others_do(members):
    """Each member's NIC carries its own bytes and those that it gives back; one without tokens takes part as well."""
    members[0].ask("exchange", 1001)
    assert members[0].answer() == "through"
    for member in members:
        member.ask("posted")
    expected = []
    for rank in range(3):
        place = GroupPlace(rank, NODES, "", 1, None, 0, {})
        expected.append([place.over_cnic_bytes(*splits([1001, 0, 0], rank))])
    assert [member.answer() for member in members] == expected == [[500], [0], [500]]

    sizes = [[100, 0, 7], [250_000] * 4, [1]]
    for member, mine in zip(members, sizes, strict=True):
        member.ask("exchange", *mine)
    assert [member.answer() for member in members] == ["through"] * 3
    for member in members:
        member.ask("posted")
    totals = [sum(member.answer()) for member in members]
    sent = [1001 + 107, 1_000_000, 1]  # a half of it to each of the others; rank 2 alone is on another node
    to_last = 500 + sum(splits([100, 0, 0], 0)[0][2:] + splits([7, 0, 0], 0)[0][2:]) + 500_000
    assert totals[2] == to_last + sent[2] and sum(totals) == 2 * totals[2]


def test_a_member_that_dies_fails_the_bursts_of_the_others_by_name(members):
    members[1].process.kill()
    members[1].process.join(10)
    members[0].ask("exchange", 1000)
    assert members[0].answer().startswith("the group of engines has ended: ")
    members[0].ask("failure")
    assert members[0].answer().startswith("the group of engines has ended: ")
    members[2].ask("exchange", 1)
    assert members[2].answer().startswith("the group of engines has ended: ")
