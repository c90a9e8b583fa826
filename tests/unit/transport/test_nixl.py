"""What is particular to NIXL: an agent for each mark, when a failed copy has ended, what agents give back, what is said when
it is missing.
"""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.transport import nixl_pool
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.nixl import NixlTransport
from tests.unit.transport.conftest import LAYOUT, OVER_TCP, STAGING, TWO_AGENTS, batch, without_nixl
from tests.unit.transport.two_agents import MARKS, PORTS, listening_ports, moved_bytes

every = pytest.mark.parametrize("transport_name", ["nixl", OVER_TCP, TWO_AGENTS], indirect=True)
over_tcp = pytest.mark.parametrize("transport_name", [OVER_TCP], indirect=True)
one_and_two_agents = pytest.mark.parametrize("transport_name", [OVER_TCP, TWO_AGENTS], indirect=True)
two_agents = pytest.mark.parametrize("transport_name", [TWO_AGENTS], indirect=True)


@one_and_two_agents
@pytest.mark.timeout(60)
def test_nothing_is_written_after_a_copy_from_a_silent_peer_has_failed(transport_name, make_pair, start_peer):
    """Cancelled by NIXL alone, the bytes would come when the peer goes on; so agents are ended, for every peer and class."""
    pair, peer = make_pair(transport_name), start_peer(transport_name)
    transport = NixlTransport("p0", pair.mine, marks={} if transport_name == "nixl" else MARKS, limit_s=0.5)
    transport.connect("d0", peer.description)
    transport.connect("d1", pair.peer.describe())
    copies = batch((pair.mine.staging_offset, peer.segment.staging_offset, STAGING))
    os.kill(peer.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, peer.process.pid, os.WSTOPPED | os.WNOWAIT)  # until it has stopped
    with pytest.raises(TransportError, match="copy between p0 and d0 failed: the transfer did not end within 0.5 s"):
        transport.copy_as(TrafficClass.KV_URGENT, "d0", copies, write=False)
    pair.mine.staging[:] = 1
    os.kill(peer.process.pid, signal.SIGCONT)
    with suppress(TransportError):  # it answers again, unless UCX has aborted it
        pair.peer.connect("peer", peer.description)
    assert (pair.mine.staging == 1).all()
    with pytest.raises(TransportError, match="copy between p0 and d1 failed: this end was closed"):
        transport.read("d1", batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING)))
    transport.close()


@every
def test_a_peer_with_a_new_agent_is_connected_again(transport_name, make_pair):
    """As after a restart under the same name: copies by the old description fail, by the new one they go."""
    pair = make_pair(transport_name)
    pair.connect()
    copies = batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING))
    pair.transport.read("d0", copies)
    pair.peer.close()
    with pytest.raises(TransportError, match="p0.*d0"):
        while True:
            pair.transport.read("d0", copies)
    pair.peer = transport_factory(transport_name)("d0", pair.theirs)
    pair.theirs.staging[:] = 3
    pair.connect()
    pair.transport.read("d0", copies)
    assert (pair.mine.staging == 3).all()


@every
def test_connecting_twice_is_connecting(transport_name, make_pair):
    pair = make_pair(transport_name)
    pair.connect()
    pair.connect()
    pair.theirs.staging[:] = 4
    pair.transport.read("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING)))
    assert (pair.mine.staging == 4).all()


@every
def test_closing_gives_back_what_was_registered_and_every_peer(transport_name, make_pair, monkeypatch):
    agents = []

    def made(*args, **options):
        agents.append(Counted(real(*args, **options)))
        return agents[-1]

    real = nixl_pool.make_agent
    monkeypatch.setattr(nixl_pool, "make_agent", made)
    pair = make_pair(transport_name)
    pair.connect()
    pair.transport.read("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING)))
    mine, theirs = agents[: len(agents) // 2], agents[len(agents) // 2 :]
    assert all(agent.registered == 2 for agent in agents)
    assert [agent.remotes for agent in mine] == [{agent.name} for agent in theirs]
    for transport in (pair.transport, pair.peer):
        transport.close()
    assert all(agent.registered == 0 and not agent.remotes and agent.agent is None for agent in agents)
    with pytest.raises(TransportError, match="copy between p0 and d0 failed: this end was closed"):
        pair.transport.read("d0", batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING)))


@every
def test_both_ends_may_drive_at_once(transport_name, make_pair):
    size, parts = 4 << 20, 16
    pair = make_pair(transport_name, staging=size)
    pair.connect()
    pair.peer.connect("p0", pair.transport.describe())
    before = np.random.default_rng(0).integers(0, 256, (2, size // 2), np.uint8)
    pair.mine.staging[: size // 2], pair.theirs.staging[: size // 2] = before
    step = size // 2 // parts

    def fetch(ends, part):
        transport, peer, here, there = ends
        at = part * step
        transport.read(peer, batch((here.staging_offset + size // 2 + at, there.staging_offset + at, step)))

    forth = pair.transport, "d0", pair.mine, pair.theirs
    back = pair.peer, "p0", pair.theirs, pair.mine
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, [forth, back] * parts * 4, [part for part in range(parts) for _ in range(2)] * 4))
    assert (pair.mine.staging[size // 2 :] == before[1]).all() and (pair.theirs.staging[size // 2 :] == before[0]).all()


@two_agents
@pytest.mark.parametrize("write", [False, True])
def test_each_class_goes_through_the_agents_of_its_mark_at_both_ends(transport_name, make_pair, write):
    """By the kernel's counters of their connections. Both ends are in this process: every byte is sent and received in it.

    The last acknowledgements may be late.
    """
    size = 8 << 20
    pair = make_pair(transport_name, staging=size)
    pair.connect()
    copies = batch((pair.mine.staging_offset, pair.theirs.staging_offset, size))
    for traffic_class, other in (tuple(MARKS), tuple(MARKS)[::-1]):
        before = moved_bytes()
        pair.transport.copy_as(traffic_class, "d0", copies, write)
        moved = {each: after - before[each] for each, after in moved_bytes().items()}
        assert 1.95 * size < moved[traffic_class] < 2.1 * size and moved[other] < 0.01 * size


@over_tcp
def test_classes_of_one_mark_share_an_agent(transport_name, make_pair, monkeypatch):
    """An idle one costs its polling."""
    made, real = [], nixl_pool.make_agent
    monkeypatch.setattr(nixl_pool, "make_agent", lambda *args, **more: made.append(more["mark"]) or real(*args, **more))
    pair, one = make_pair("shared_memory"), MARKS[TrafficClass.KV_CACHE]
    for marks, expected in (({}, [None]), (dict.fromkeys(MARKS, one), [one]), (MARKS, list(MARKS.values()))):
        made.clear()
        NixlTransport("p0", pair.mine, marks=marks).close()
        assert made == expected


@over_tcp
@pytest.mark.parametrize("drives", [0, 1])
def test_nodes_with_one_agent_and_with_two_reach_one_another(transport_name, make_pair, drives):
    """As where one host has RDMA and the other has none."""
    pair = make_pair("shared_memory")
    ends = [NixlTransport("p0", pair.mine, marks=MARKS), NixlTransport("d0", pair.theirs)]
    driving, other = ends[drives], ends[1 - drives]
    driving.connect("peer", other.describe())
    here, there = (pair.mine, pair.theirs) if drives == 0 else (pair.theirs, pair.mine)
    for number, traffic_class in enumerate(MARKS, 1):
        there.staging[:] = number
        driving.copy_as(traffic_class, "peer", batch((here.staging_offset, there.staging_offset, STAGING)), write=False)
        assert (here.staging == number).all()
    for end in ends:
        end.close()


@over_tcp
def test_a_mark_wins_over_the_environment_which_stays_as_it_was(transport_name, make_pair, monkeypatch):
    """Another agent's is what the operator has set."""
    theirs = "30000-30999"
    monkeypatch.setenv("UCX_TCP_PORT_RANGE", theirs)
    pair = make_pair("shared_memory")
    before = listening_ports()
    for marks, expected in ((MARKS, list(PORTS.values())), ({}, [range(30_000, 31_000)])):
        transport = NixlTransport("p0", pair.mine, marks=marks)
        listening = listening_ports() - before
        assert {ports for ports in expected for port in listening if port in ports} == set(expected)
        assert all(any(port in ports for ports in expected) for port in listening)
        transport.close()
    assert os.environ["UCX_TCP_PORT_RANGE"] == theirs


class Counted:
    """A real agent that counts what it holds."""

    def __init__(self, agent):
        self._of, self.registered, self.remotes = agent, 0, set()

    def register_memory(self, *args):
        self.registered += 1
        return self._of.register_memory(*args)

    def deregister_memory(self, *args):
        self._of.deregister_memory(*args)
        self.registered -= 1

    def add_remote_agent(self, metadata):
        name = self._of.add_remote_agent(metadata)
        self.remotes.add(name.decode())
        return name

    def remove_remote_agent(self, name):
        self._of.remove_remote_agent(name)
        self.remotes.discard(name)

    @property
    def agent(self):
        return self._of.agent

    @agent.setter
    def agent(self, value):
        self._of.agent = value

    def __getattr__(self, name):
        return getattr(self._of, name)


def test_a_missing_nixl_names_the_key_and_what_to_install(make_pair, monkeypatch):
    without_nixl(monkeypatch)
    with pytest.raises(
        ConfigError, match=r"transport: p0 cannot use nixl: the package nixl is missing .*dualpath-ray\[nixl\]"
    ):
        make_pair("nixl")


@over_tcp
def test_a_device_that_is_not_here_is_named(transport_name, make_pair):
    pair = make_pair("shared_memory")
    with pytest.raises(
        ConfigError, match="transport: p0 cannot use nixl: NIXL has no working plugin UCX on wire7 here"
    ):
        NixlTransport("p0", pair.mine, device="wire7")
    assert "UCX_NET_DEVICES" not in os.environ
    transport, other = NixlTransport("p0", pair.mine, device="lo"), NixlTransport("d0", pair.theirs, device="lo")
    transport.connect("d0", other.describe())
    pair.theirs.full_block(0)[:] = np.arange(LAYOUT.full_block_bytes, dtype=np.uint8).reshape(LAYOUT.shape)
    at = pair.mine.slots_offset + LAYOUT.header_bytes
    transport.read("d0", batch((at, at, LAYOUT.full_block_bytes)))
    assert (pair.mine.full_block(0) == pair.theirs.full_block(0)).all()
    transport.close()
    other.close()
