"""Engines that exchange model-execution traffic, each a process as in a system; over gloo."""

import multiprocessing
import queue
import traceback

import pytest

from dualpath_ray.engine.expert_round import GroupPlace, splits

NODES = ("d0", "d0", "d1")
LIMIT_S = 90


class Member:
    """Runs in a process of its own; the test tells it what to do."""

    def __init__(self, rank):
        context = multiprocessing.get_context("spawn")
        self.orders, self.answers = context.Queue(), context.Queue()
        self.process = context.Process(target=live, args=(rank, self.orders, self.answers), daemon=True)
        self.process.start()

    def ask(self, what, *arguments):
        self.orders.put((what, arguments))

    def answer(self):
        said = self.answers.get(timeout=LIMIT_S)
        assert not (isinstance(said, str) and said.startswith("Traceback")), said
        return said


def live(rank, orders, answers):
    import torch

    from dualpath_ray.base.errors import TransportError
    from dualpath_ray.engine.expert_group import ExpertGroup, GroupStore

    torch.set_num_threads(1)
    posted, failures, group, store = [], queue.SimpleQueue(), None, None

    def post(nbytes):
        posted.append(nbytes)
        return lambda: 0.0

    try:
        while True:
            what, arguments = orders.get()
            if what == "open":
                store = GroupStore("127.0.0.1")
                answers.put(store.port)
            elif what == "join":
                group = ExpertGroup(GroupPlace(rank, NODES, "127.0.0.1", *arguments), "cpu", post, failures.put)
                answers.put("joined")
            elif what == "exchange":
                try:
                    for nbytes in arguments:
                        assert group.exchange(nbytes) > 0
                    answers.put("through")
                except TransportError as error:
                    answers.put(str(error))
            elif what == "posted":
                answers.put(list(posted))
            elif what == "failure":
                answers.put(failures.get(timeout=LIMIT_S))
    except Exception:
        answers.put(traceback.format_exc())


@pytest.fixture
def members():
    made = [Member(rank) for rank in range(len(NODES))]
    made[0].ask("open")
    port = made[0].answer()
    for member in made:
        member.ask("join", port, "lo", 184, {})
    assert [member.answer() for member in made] == ["joined"] * len(NODES)
    yield made
    for member in made:
        member.process.kill()
        member.process.join(10)


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
