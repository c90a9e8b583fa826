"""Members of a group of engines, each a process as in a system; a test tells them what to do."""

import multiprocessing
import os
import queue
import traceback

from dualpath_ray.engine.expert_round import GroupPlace

LIMIT_S = 90


class Member:
    """One of them."""

    def __init__(self, rank, nodes, device):
        context = multiprocessing.get_context("spawn")
        self.orders, self.answers = context.Queue(), context.Queue()
        self.process = context.Process(target=live, args=(rank, nodes, device, self.orders, self.answers), daemon=True)
        self.process.start()

    def ask(self, what, *arguments):
        self.orders.put((what, arguments))

    def answer(self):
        said = self.answers.get(timeout=LIMIT_S)
        assert not (isinstance(said, str) and said.startswith("Traceback")), said
        return said


def live(rank, nodes, device, orders, answers):
    if device == "cuda":  # as Ray gives an engine its GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)
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
                group = ExpertGroup(GroupPlace(rank, nodes, "127.0.0.1", *arguments), device, post, failures.put)
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


def members_of(nodes, device):
    """A group of as many."""
    members = [Member(rank, nodes, device) for rank in range(len(nodes))]
    members[0].ask("open")
    port = members[0].answer()
    for member in members:
        member.ask("join", port, "lo", 184, {})
    assert [member.answer() for member in members] == ["joined"] * len(nodes)
    return members


def stop(members):
    for member in members:
        member.process.kill()
        member.process.join(10)
