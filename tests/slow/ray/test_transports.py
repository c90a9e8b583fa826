"""The promises of every transport (tests/unit/transport/cases.py) by those that only Ray's actors can run."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from dualpath_ray.base.errors import LayoutError, TransportError
from dualpath_ray.engine.device import num_cuda_devices
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.transport.load import Around, make_transport
from dualpath_ray.transport.port import AskPeer, CopyBatch
from tests.ray.systems import check, roll_out, running, trajectories
from tests.unit.transport.cases import CASES
from tests.unit.transport.conftest import LAYOUT, STAGING, Pair, batch

pytestmark = pytest.mark.ray
NODES = ("p0", "d0")
TRANSPORTS = ("collective", "rdt", "rdt_cuda_ipc")


def skip_without(transport: str) -> None:
    if transport == "rdt":
        pytest.importorskip("nixl", reason="nixl is not installed (make setup EXTRAS=dev,nixl)")
    if transport == "rdt_cuda_ipc" and not num_cuda_devices():
        pytest.skip("no CUDA device")


class Holder:
    """An actor with a pool and a transport, as a traffic manager has them."""

    def __init__(self, transport: str, system: str, node: str, layout: KvLayout) -> None:
        self._system = system
        segment = Segment.create(segment_path(system, node), layout, 4, STAGING, "node.pe_buffer_bytes")
        self._transport: Any = make_transport(
            transport,
            node,
            segment,
            Around(address="127.0.0.1", system=system, nodes=NODES, one_host=True, help_of=self._help_of),
        )

    def _help_of(self, peer: str) -> AskPeer:
        ask: AskPeer = ray.get_actor(f"{self._system}/{peer}").help.remote
        return ask

    def call(self, what: str, *args: Any) -> Any:
        return getattr(self._transport, what)(*args)

    def help(self, *request: Any) -> Any:
        return self._transport.help(*request)


class InActor:
    """The transport of an actor, called from here."""

    def __init__(self, holder: Any) -> None:
        self.holder = holder

    def read(self, peer: str, copies: CopyBatch) -> None:
        ray.get(self.holder.call.remote("read", peer, copies), timeout=60)

    def write(self, peer: str, copies: CopyBatch) -> None:
        ray.get(self.holder.call.remote("write", peer, copies), timeout=60)


MakePair = Callable[..., Pair]


@pytest.fixture(scope="module")
def make_pair() -> Iterator[MakePair]:
    made: list[tuple[str, Any]] = []

    def make(transport: str, their_layout: KvLayout = LAYOUT) -> Pair:
        skip_without(transport)
        system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
        gpus = 0.1 if transport == "rdt_cuda_ipc" else 0
        tensors = transport.startswith("rdt")
        kind = ray.remote(num_cpus=0, num_gpus=gpus, max_concurrency=8, enable_tensor_transport=tensors)(Holder)
        holders = []
        for node, layout in zip(NODES, (LAYOUT, their_layout), strict=True):
            holders.append(kind.options(name=f"{system}/{node}").remote(transport, system, node, layout))
            made.append((system, holders[-1]))
        ray.get([holder.call.remote("describe") for holder in holders], timeout=60)
        mine, theirs = (Segment.attach(Path(segment_path(system, node))) for node in NODES)
        pair: Any = Pair(mine, theirs, InActor(holders[0]), InActor(holders[1]))
        return pair

    yield make
    for system, holder in made:
        ray.kill(holder)
        sweep(system)


def connect(pair: Any) -> None:
    """Each with the other, at the same time: a group comes to be when all are there."""
    holders = pair.transport.holder, pair.peer.holder
    described = ray.get([holder.call.remote("describe") for holder in holders], timeout=60)
    waits = [
        holder.call.remote("connect", peer, at)
        for holder, peer, at in zip(holders, NODES[::-1], described[::-1], strict=True)
    ]
    ray.get(waits, timeout=60)


@pytest.fixture(scope="module", params=TRANSPORTS)
def pair(request: pytest.FixtureRequest, make_pair: MakePair) -> Pair:
    pair = make_pair(request.param)
    connect(pair)
    return pair


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_promise(pair: Pair, case: Callable[[Pair], None]) -> None:
    case(pair)


@pytest.mark.parametrize("transport", ["collective", "rdt"])
def test_the_main_job_gives_the_same_tokens(transport: str) -> None:
    skip_without(transport)
    prefill_nodes = 2 if transport == "collective" else 1  # a group of three; RDT's agents take a core each
    with running({"transport": transport, "prefill_nodes": prefill_nodes}) as (system, client):
        record = roll_out(system, client, trajectories(3))
        assert check(system, record).identical and record.load_failures == 0
        assert record.cnic_bytes["p0"]["out"] > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_another_layout_is_refused_and_both_ends_are_named(make_pair: MakePair, transport: str) -> None:
    pair: Any = make_pair(transport, KvLayout(9, 9, 9))
    described = ray.get(pair.peer.holder.call.remote("describe"), timeout=60)
    with pytest.raises(LayoutError, match=r"p0 holds blocks \(2, 4, 8\) and d0 \(9, 9, 9\)"):
        ray.get(pair.transport.holder.call.remote("connect", "d0", described), timeout=60)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_peer_that_dies_is_named(make_pair: MakePair, transport: str) -> None:
    pair = make_pair(transport)
    connect(pair)
    copies = batch((pair.mine.staging_offset, pair.theirs.staging_offset, STAGING))
    pair.transport.read("d0", copies)
    ray.kill(pair.peer.holder)
    with pytest.raises(TransportError, match="copy between p0 and d0 failed"):
        while True:
            pair.transport.read("d0", copies)
