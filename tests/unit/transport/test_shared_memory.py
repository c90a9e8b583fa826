"""What is particular to shared memory, and the choice of a transport by name."""

import json

import pytest

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.shared_memory import SharedMemoryTransport
from tests.unit.transport.conftest import batch


def test_neighbours_are_joined():
    merged = batch((0, 100, 10), (10, 110, 5), (15, 120, 5), (40, 125, 5), (45, 130, 5)).merged()
    assert merged.local.tolist() == [0, 15, 40]
    assert merged.remote.tolist() == [100, 120, 125]
    assert merged.nbytes.tolist() == [15, 5, 10]


def test_another_host_is_refused(make_pair):
    pair = make_pair("shared_memory")
    elsewhere = {**json.loads(pair.peer.describe()), "shared_memory": "elsewhere"}
    with pytest.raises(TransportError, match="p0 and d0 see different /dev/shm"):
        pair.transport.connect("d0", json.dumps(elsewhere).encode())


def test_a_vanished_peer_is_named(make_pair):
    pair = make_pair("shared_memory")
    description = pair.peer.describe()
    pair.theirs.unlink()
    with pytest.raises(TransportError, match="p0 cannot open the pool of d0: No such file"):
        pair.transport.connect("d0", description)


def test_transports_by_name(make_pair):
    named = transport_factory("dualpath_ray.transport.shared_memory:SharedMemoryTransport")
    assert named is SharedMemoryTransport
    with pytest.raises(ConfigError, match="transport: 'pigeon' is no transport"):
        transport_factory("pigeon")
    with pytest.raises(ConfigError, match="transport: 'no_such:thing' cannot be imported"):
        transport_factory("no_such:thing")
