"""``transport: auto``: what is chosen, why, and that both ends then use it."""

import json
import os
import signal
from base64 import b64decode, b64encode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import TransportError
from dualpath_ray.transport import nixl_pool
from dualpath_ray.transport.choice import AutoTransport, choose
from dualpath_ray.transport.nixl import NixlTransport
from dualpath_ray.transport.sockets import SocketTransport
from tests.unit.transport.conftest import batch, without_nixl

names = st.sampled_from(["sockets", "nixl", "other"])


@given(st.dictionaries(names, st.floats(1e6, 1e11)), st.dictionaries(names, st.text(min_size=1, max_size=20)))
def test_one_memory_is_never_left_and_else_the_fastest_wins(rates, missing):
    assert choose(True, rates, missing).name == "shared_memory"
    if not rates:
        with pytest.raises(TransportError, match="no transport reaches it"):
            choose(False, rates, missing)
        return
    choice = choose(False, rates, missing)
    assert rates[choice.name] == max(rates.values())
    assert all(name in choice.why for name in rates)
    assert all(f"{name}: {why}" in choice.why for name, why in missing.items())


def elsewhere(description: bytes) -> bytes:
    """What the same node would say if it were on another host."""
    offers = json.loads(description)
    moved = {}
    for name, text in offers.items():
        place = json.loads(b64decode(text))
        moved[name] = b64encode(json.dumps({**place, "shared_memory": "another host"}).encode()).decode()
    return json.dumps(moved).encode()


def test_nodes_of_one_host_share_memory(make_pair):
    pair = make_pair("auto")
    pair.connect()
    assert pair.transport.choices["d0"].name == "shared_memory"
    assert pair.transport.inline_bytes > 0


def test_nodes_of_two_hosts_use_what_was_measured(make_pair):
    pair = make_pair("auto")
    pair.transport.connect("d0", elsewhere(pair.peer.describe()))
    choice = pair.transport.choices["d0"]
    assert choice.name in ("sockets", "nixl") and "sockets" in choice.why and "nixl" in choice.why
    assert pair.transport.inline_bytes == 0
    pair.theirs.staging[:] = np.random.default_rng(0).integers(0, 256, len(pair.theirs.staging), np.uint8)
    pair.transport.read("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, 4096)))
    assert (pair.mine.staging == pair.theirs.staging).all()


def test_a_missing_nixl_is_a_clause_of_the_reason(make_pair, monkeypatch):
    without_nixl(monkeypatch)
    pair = make_pair("auto")
    pair.transport.connect("d0", elsewhere(pair.peer.describe()))
    choice = pair.transport.choices["d0"]
    assert choice.name == "sockets"
    assert choice.why.startswith("sockets ") and "; nixl: the package nixl is missing" in choice.why


def test_on_one_host_nixl_is_not_even_loaded(make_pair, monkeypatch):
    without_nixl(monkeypatch)
    pair = make_pair("shared_memory")
    alone, other = (AutoTransport(name, pool, one_host=True) for name, pool in (("p0", pair.mine), ("d0", pair.theirs)))
    alone.connect("d0", elsewhere(other.describe()))
    assert alone.choices["d0"].name == "sockets" and "nixl" not in alone.choices["d0"].why
    alone.close()
    other.close()


@pytest.mark.timeout(60)
def test_a_trial_of_nixl_that_fails_leaves_it_to_the_other_peers(make_pair, start_peer, monkeypatch):
    pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    monkeypatch.setenv("UCX_TLS", "tcp,self")
    pair, silent = make_pair("auto"), start_peer("auto")
    connect = NixlTransport.connect

    def connect_and_stop(self, peer, description):
        connect(self, peer, description)
        if peer == "silent":
            os.kill(silent.process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, silent.process.pid, os.WSTOPPED | os.WNOWAIT)  # until it has stopped

    monkeypatch.setattr(NixlTransport, "connect", connect_and_stop)
    pair.transport.connect("d0", elsewhere(pair.peer.describe()))
    with monkeypatch.context() as patch:
        patch.setattr(nixl_pool, "_REACH_S", 2.0)
        pair.transport.connect("silent", elsewhere(silent.description))
    pair.transport.connect("d1", elsewhere(pair.peer.describe()))
    d0, failed, d1 = (pair.transport.choices[peer] for peer in ("d0", "silent", "d1"))
    assert failed.name == "sockets" and "nixl: trial copy between p0 and silent failed: " in failed.why
    assert ", nixl " in d0.why and ", nixl " in d1.why, "it was measured"


@pytest.mark.parametrize(
    ("reached", "expected"), [("", ["d0", "d1"]), ("d0", ["d0", "d1", "d2", "d3"]), ("d1", ["d0", "d1", "d2", "d3"])]
)
def test_nixl_is_given_up_after_two_peers_if_it_has_reached_none(make_pair, monkeypatch, reached, expected):
    """Each takes it ten seconds, and a firewall is the same for all."""
    tried = []

    class Nixl(SocketTransport):
        def __init__(self, node, segment, device, marks):
            super().__init__(node, segment)

        def connect(self, peer, description):
            tried.append(peer)
            if peer != reached:
                raise TransportError("no answer")

        def try_read(self, peer, nbytes):
            pass

    monkeypatch.setattr("dualpath_ray.transport.choice.NixlTransport", Nixl)
    pair = make_pair("auto")
    for peer in ("d0", "d1", "d2", "d3"):
        pair.transport.connect(peer, elsewhere(pair.peer.describe()))
    assert tried == expected
    for peer, choice in pair.transport.choices.items():
        if peer == reached:
            assert choice.name == "nixl"
        elif peer in tried:
            assert choice.why.endswith("; nixl: no answer")
        else:
            assert choice.why.endswith("; nixl: not tried, since it failed with d0 and d1")


def test_a_peer_that_nothing_reaches_is_named(make_pair):
    pair = make_pair("auto")
    description = elsewhere(pair.peer.describe())
    pair.peer.close()
    with pytest.raises(TransportError, match="p0 cannot reach d0: no transport reaches it.*sockets: "):
        pair.transport.connect("d0", description)
