"""Members of a group of engines, each a process as in a system; a test tells them what to do."""

import multiprocessing
import os
import queue
import socket
import threading
import time
import traceback
from datetime import timedelta

from dualpath_ray.engine.expert_round import GroupPlace

LIMIT_S = 90
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo"}


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


def tos_of(connection):
    with socket.socket(fileno=os.dup(connection.descriptor)) as opened:
        return opened.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)


def live(rank, nodes, device, orders, answers):
    if device == "cuda":  # as Ray gives an engine its GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = str(rank)
    import torch

    from dualpath_ray.base.errors import TransportError
    from dualpath_ray.base.open_sockets import tcp_connections
    from dualpath_ray.engine.expert_group import ExpertGroup, GroupStore

    torch.set_num_threads(1)
    posted, failures, group, store = [], queue.SimpleQueue(), None, None

    def post(nbytes):
        posted.append(nbytes)
        return lambda: None

    try:
        while True:
            what, arguments = orders.get()
            if what == "open":
                store = GroupStore("127.0.0.1")
                answers.put(store.port)
            elif what == "join":
                port, tos, limit_s = arguments
                place = GroupPlace(f"engine {nodes[rank]}/{rank}", rank, nodes, "127.0.0.1", port, tos, LOOPBACK)
                group = ExpertGroup(place, device, post, failures.put, timedelta(seconds=limit_s))
                answers.put("joined")
            elif what == "tos":
                answers.put([tos_of(connection) for connection in tcp_connections()])
            elif what == "close soon":
                threading.Timer(*arguments, group.close).start()
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


def members_of(nodes, device, tos=184, limit_s=60):
    """A group of as many; the first, which has the store, joins last."""
    members = [Member(rank, nodes, device) for rank in range(len(nodes))]
    members[0].ask("open")
    port = members[0].answer()
    for member in members:
        member.ask("posted")
        assert member.answer() == []  # it has loaded what it needs, which takes no part of the limit
    for member in reversed(members):
        if member is members[0]:
            time.sleep(1)
        member.ask("join", port, tos, limit_s)
    assert [member.answer() for member in members] == ["joined"] * len(nodes)
    return members


def stop(members):
    for member in members:
        member.process.kill()
        member.process.join(10)
