"""Engines that exchange model-execution traffic over gloo."""

import os
import signal
import time

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
        place = GroupPlace("", rank, NODES, "", 1, 0, {})
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


def test_a_round_in_several_pieces_of_as_many_members_as_do_not_divide_them():
    made = members_of(("d0", "d0", "d1", "d1"), "cpu")
    try:
        for member in made:
            member.ask("exchange", (40 << 20) + 1)
        assert [member.answer() for member in made] == ["through"] * 4
        for member in made:
            member.ask("posted")
        to_one = ((40 << 20) + 1) // 3  # of which there and back to two members elsewhere
        assert all(abs(sum(member.answer()) - 4 * to_one) <= 24 for member in made)
    finally:
        stop(made)


def test_an_engine_that_has_ended_exchanges_nothing(members):
    members[0].ask("close soon", 0)
    time.sleep(1)
    members[0].ask("exchange", 1000)
    assert members[0].answer() == "engine d0/0 ends"


def test_every_connection_between_members_is_marked(members):
    """Of gloo and of the store, whenever it was made; the processes have no others."""
    for member in members:
        member.ask("tos")
        marks = member.answer()
        assert set(marks) == {184} and len(marks) >= 3 + 2  # to the store, and to each other member


def test_without_a_mark_none_is_set():
    made = members_of(NODES[:2], "cpu", tos=0)
    try:
        made[1].ask("tos")
        assert set(made[1].answer()) == {0}
    finally:
        stop(made)


@pytest.mark.parametrize("who", [0, 1])
def test_a_member_that_dies_ends_the_group_of_the_others(members, who):
    """The first one has the store too. Each says which engine lost its group."""
    members[who].process.kill()
    members[who].process.join(10)
    left = [member for rank, member in enumerate(members) if rank != who]
    names = [f"engine {NODES[rank]}/{rank} has lost its group: " for rank in range(3) if rank != who]
    for member, name in zip(left, names, strict=True):
        member.ask("exchange", 1000)
        assert member.answer().startswith(name)
        member.ask("failure")
        assert member.answer().startswith(name)
        member.ask("exchange", 1)
        assert member.answer().startswith(name)


def test_a_member_that_dies_in_the_middle_of_a_round_fails_its_burst(members):
    os.kill(members[1].process.pid, signal.SIGSTOP)
    members[0].ask("exchange", 64 << 20)
    time.sleep(1)
    members[1].process.kill()
    assert members[0].answer().startswith("engine d0/0 has lost its group: ")


@pytest.mark.parametrize("who", [0, 1])
def test_a_member_that_is_silent_fails_the_bursts_of_the_others(who):
    """Even the one that has the store, without which no round begins."""
    made = members_of(NODES[:2], "cpu", limit_s=3)
    try:
        os.kill(made[who].process.pid, signal.SIGSTOP)
        other = 1 - who
        made[other].ask("exchange", 1000)
        assert made[other].answer().startswith(f"engine d0/{other} has lost its group: ")
    finally:
        stop(made)


def test_an_engine_that_ends_in_the_middle_of_a_round_does_not_hang(members):
    os.kill(members[1].process.pid, signal.SIGSTOP)
    members[0].ask("close soon", 1)
    members[0].ask("exchange", 1000)
    assert members[0].answer() == "engine d0/0 ends"
