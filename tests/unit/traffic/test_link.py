"""Links over Unix sockets: ordered, and their end is told."""

import os
import queue
import secrets

import pytest

from dualpath_ray.base.errors import TransportError
from dualpath_ray.traffic.link import Link, link_path, listen, read_all
from dualpath_ray.traffic.messages import LayerOut, Revoke


@pytest.fixture
def server():
    """(path, queue of (name, link)) of somebody who listens."""
    path = link_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "n0")
    links: queue.Queue = queue.Queue()
    sock = listen(path, lambda name, link: links.put((name, link)))
    yield path, links
    sock.close()
    path.unlink(missing_ok=True)


def test_messages_arrive_in_order_and_the_end_is_told(server):
    path, links = server
    here = Link.dial(path, "engine:0")
    name, there = links.get(timeout=10)
    assert name == "engine:0"
    got: queue.Queue = queue.Queue()
    thread = read_all(there, got.put, lambda: got.put("end"), "reader")
    sent = [LayerOut(0, 1, layer) for layer in range(200)] + [Revoke("x" * 100_000, 1)]
    for message in sent:
        here.send(message)
    here.close()
    assert [got.get(timeout=10) for _ in sent] == sent
    assert got.get(timeout=10) == "end"
    thread.join(10)
    with pytest.raises(TransportError, match="while sending LayerOut"):
        for _ in range(100):
            here.send(sent[0])


def test_nobody_listens():
    with pytest.raises(TransportError, match="engine:3 cannot reach"):
        Link.dial(link_path(f"test-{secrets.token_hex(4)}", "n0"), "engine:3", timeout_s=0.1)
