"""Links over Unix sockets and TCP: ordered, their end is told, and a stranger gets none."""

import os
import queue
import secrets
import socket
import struct
import threading
import time
from dataclasses import replace

import pytest

from dualpath_ray.base.errors import TransportError
from dualpath_ray.traffic import link as link_module
from dualpath_ray.traffic.link import Link, NodeListener, link_path, listen, read_all
from dualpath_ray.traffic.messages import LayerOut, Revoke


class Listening:
    """Somebody who listens over a Unix socket or TCP; ``messages`` holds (name, message) and (name, "end")."""

    def __init__(self, kind):
        self.messages: queue.Queue = queue.Queue()
        self.kind, self.path = kind, link_path(f"test-{os.getpid()}-{secrets.token_hex(4)}", "n0")
        if kind == "unix":
            self.server = listen(self.path, self.read)
        else:
            self.server = NodeListener("127.0.0.1", self.read)

    def read(self, name, link):
        self.link = link
        return read_all(link, lambda m: self.messages.put((name, m)), lambda: self.messages.put((name, "end")), name)

    def dial(self, name):
        return Link.dial(self.path, name) if self.kind == "unix" else Link.dial_node(self.server.at, name)


@pytest.fixture(params=["unix", "tcp"])
def listening(request):
    made = Listening(request.param)
    yield made
    made.server.close()
    made.path.unlink(missing_ok=True)


def test_messages_arrive_in_order_and_the_end_is_told(listening):
    here = listening.dial("engine:0")
    sent = [LayerOut(0, 1, layer) for layer in range(200)] + [Revoke("x" * 100_000, 1)]
    for message in sent:
        here.send(message)
    here.close()
    for wanted in [*sent, "end"]:
        assert listening.messages.get(timeout=10) == ("engine:0", wanted)
    with pytest.raises(TransportError, match="while sending LayerOut"):
        for _ in range(100):
            here.send(sent[0])


def test_the_other_way_and_the_end_of_who_listened(listening):
    here = listening.dial("p0")
    here.send(LayerOut(0, 1, 2))
    assert listening.messages.get(timeout=10) == ("p0", LayerOut(0, 1, 2))
    listening.link.send(LayerOut(3, 4, 5))
    assert here.receive() == LayerOut(3, 4, 5)
    listening.link.close()
    assert here.receive() is None
    assert listening.messages.get(timeout=10) == ("p0", "end")


@pytest.mark.parametrize("listening", ["tcp"], indirect=True)
def test_a_stranger_is_told_nothing(listening):
    at = listening.server.at
    for first in (b"GET / HTTP/1.1\r\n\r\n" * 4, b"DPLINK01" + bytes(32)):
        with socket.create_connection((at.host, at.port)) as stranger:
            stranger.sendall(first)
            assert stranger.recv(1) == b""
    wrong = Link.dial_node(replace(at, token=bytes(32)), "p9")
    assert wrong.receive() is None and listening.messages.empty()


@pytest.mark.parametrize("listening", ["tcp"], indirect=True)
def test_closing_ends_what_was_accepted(listening):
    here = listening.dial("p0")
    here.send(LayerOut(0, 1, 2))
    listening.messages.get(timeout=10)
    listening.server.close()
    assert here.receive() is None
    with pytest.raises(TransportError, match=r"p1 cannot reach the traffic manager at 127\.0\.0\.1:\d+: "):
        listening.dial("p1")


def test_a_broken_link_is_an_error_that_names_both_ends(listening):
    here = listening.dial("engine:7")
    here.send(LayerOut(0, 1, 2))
    listening.messages.get(timeout=10)
    here.close()
    assert listening.messages.get(timeout=10) == ("engine:7", "end")
    for end in (here, listening.link):
        with pytest.raises(
            TransportError, match=r"between engine:7 and the traffic manager at \S+ broke while sending LayerOut"
        ):
            end.send(LayerOut(0, 1, 2))


@pytest.mark.parametrize(
    "last",
    [
        struct.pack("<I", 2**32 - 1),  # a length that nobody should wait for, or allocate
        struct.pack("<I", 3) + b"\xc1\xc1\xc1",
        struct.pack("<I", 1) + b"\x07",
        struct.pack("<I", 6) + b"\x91\xa4what",
    ],
)
def test_whoever_sends_what_is_no_message_is_gone(listening, last):
    here = listening.dial("engine:7")
    here.send(LayerOut(0, 1, 2))
    assert listening.messages.get(timeout=10) == ("engine:7", LayerOut(0, 1, 2))
    here._socket.sendall(last)
    assert listening.messages.get(timeout=10) == ("engine:7", "end")
    assert here.receive() is None


def test_half_a_message_is_none(listening):
    here = listening.dial("engine:7")
    here._socket.sendall(struct.pack("<I", 100) + b"half of it")
    here.close()
    assert listening.messages.get(timeout=10) == ("engine:7", "end")


def test_the_end_is_told_whatever_becomes_of_who_reads(listening, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    ended = threading.Event()
    here, there = socket.socketpair()
    sender, receiver = Link(here, "here"), Link(there, "there")
    read_all(receiver, lambda message: 1 / 0, ended.set, "reader")
    sender.send(LayerOut(0, 1, 2))
    assert ended.wait(10) and sender.receive() is None


def test_links_that_ended_keep_no_descriptor(listening):
    """Of either end, though both still refer to them."""
    before, kept = len(os.listdir("/proc/self/fd")), []
    for number in range(8):
        kept.append(listening.dial(f"engine:{number}"))
        kept[-1].send(LayerOut(0, 1, 2))
        listening.messages.get(timeout=10)
        kept.append(listening.link)
        kept[-2 + number % 2].close()  # now this end, now that
        assert listening.messages.get(timeout=10) == (f"engine:{number}", "end")
    for link in kept:
        link.close()
    deadline = time.monotonic() + 10  # a server's thread gives its connection back after the end is told
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_says_nothing_is_sent_away(listening, monkeypatch):
    monkeypatch.setattr(link_module, "HELLO_S", 0.05)
    if listening.kind == "unix":
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        silent.connect(str(listening.path))
    else:
        at = listening.server.at
        silent = socket.create_connection((at.host, at.port))
        silent.sendall(b"DPLINK01" + at.token)
    with silent:
        silent.settimeout(10)
        assert silent.recv(1) == b"" and listening.messages.empty()


def test_nobody_listens():
    with pytest.raises(TransportError, match="engine:3 cannot reach"):
        Link.dial(link_path(f"test-{secrets.token_hex(4)}", "n0"), "engine:3", timeout_s=0.1)
