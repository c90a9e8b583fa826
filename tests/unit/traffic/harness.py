"""Several nodes of one system in one process: real cores, pools, transport and seals; the order of things is drawn.

Whatever may happen next (a message arrives, a read, copy or index call is over, an engine takes a step, time passes) is
one action; ``World.step`` picks one. An operation's bytes move when it is picked, so a slot that was given back too early
is written to after its next owner has it, and somebody's KV is wrong.
"""

import os
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import numpy as np

from dualpath_ray.base.errors import DualPathError, StorageError, UnendedReadError
from dualpath_ray.base.types import ReadPath
from dualpath_ray.kv.keys import block_keys
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal, verify
from dualpath_ray.kv.segment import FREE, BufferPool, Segment, segment_path
from dualpath_ray.traffic import messages as m
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.copies import cnic_bytes
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.effects import (
    CopyPool,
    Event,
    Fail,
    FromEngine,
    FromPeer,
    IndexCall,
    OpDone,
    ReadBlock,
    Send,
    Tick,
    WriteBlock,
)
from dualpath_ray.traffic.nic import Nic
from dualpath_ray.traffic.prefill_side import StagingRing, region_layout
from dualpath_ray.transport.shared_memory import SharedMemoryTransport
from tests.unit.traffic.fake_engines import SALT, FakeDecode, FakePrefill, FakeRequest
from tests.unit.traffic.fake_storage import FakeStorage

MAX_STEPS = 200_000


@dataclass(frozen=True)
class Setup:
    """Shape of a system."""

    prefill_nodes: int = 1
    decode_nodes: int = 1
    engines: int = 1
    layout: KvLayout = KvLayout(num_layers=3, block_tokens=4, bytes_per_token_layer=8)
    depth: int = 2  # layers in flight
    layerwise: bool = True
    pe_slots: int = 40
    de_slots: int = 40
    max_context_tokens: int = 96
    snic_bytes_per_s: float | None = 50_000.0
    cnic_bytes_per_s: float | None = 20_000.0  # 200 bytes in the time of a chunk
    charged: bool = True
    least_chunk_bytes: int = 100
    capacity_blocks: int = 10**6


@dataclass
class Node:
    """One logical node."""

    core: TrafficCore
    segment: Segment
    transport: SharedMemoryTransport
    rings: list[StagingRing]
    engines: list[FakePrefill | FakeDecode] = field(default_factory=list)


@dataclass
class Operation:
    """Something a core has asked for and not heard of yet."""

    node: str
    kind: str  # read, late read, write, copy or index
    finish: Callable[[], None]
    leases: dict[tuple[str, int], tuple[int, bytes]] = field(default_factory=dict)  # (node, slot) -> attempt, owner


class World:
    """A system at work. ``held``: kinds of operations that do not end for now."""

    def __init__(self, setup: Setup, random: Random) -> None:
        self.setup, self.random = setup, random
        self.now_s = 0.0
        self.storage = FakeStorage(setup.layout, setup.capacity_blocks)
        self.operations: list[Operation] = []
        self.held: set[str] = set()
        self.unreadable = False  # no node gets at the store
        self.unended_reads = 0  # so many of the next reads are given up, and their bytes come when nobody wants them
        self.index_calls: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.ended: dict[tuple[str, int], tuple[int, ...] | None] = {}
        self.requests: dict[tuple[str, int], FakeRequest] = {}
        self.on_ended: Callable[[FakeRequest, tuple[int, ...] | None], None] = lambda request, tokens: None
        self._links: dict[tuple[str, str], deque[Any]] = {}
        self.nodes: dict[str, Node] = {}
        for role, count, slots in (
            ("p", setup.prefill_nodes, setup.pe_slots),
            ("d", setup.decode_nodes, setup.de_slots),
        ):
            for i in range(count):
                self.nodes[f"{role}{i}"] = self._make_node(f"{role}{i}", slots)
        for name, node in self.nodes.items():
            for peer in self.nodes:
                if peer[0] != name[0]:
                    node.transport.connect(peer, self.nodes[peer].transport.describe())

    def _make_node(self, name: str, slots: int) -> Node:
        setup, layout = self.setup, self.setup.layout
        prefill = name.startswith("p")
        depth = min(setup.depth, layout.num_layers) if setup.layerwise else layout.num_layers
        staging = setup.engines * depth * setup.max_context_tokens * layout.bytes_per_token_layer if prefill else 0
        path = segment_path(f"test-{os.getpid()}-{secrets.token_hex(6)}", name)
        segment = Segment.create(path, layout, slots, staging, "node.pe_buffer_bytes")
        region = region_layout(layout, staging, setup.engines, depth)
        rings = [
            StagingRing(segment.staging_offset + g * depth * region, region, depth)
            for g in range(setup.engines if prefill else 0)
        ]
        snic = Nic(f"{name}/snic", setup.snic_bytes_per_s, setup.snic_bytes_per_s, setup.charged)
        cnic, charged = setup.cnic_bytes_per_s, setup.charged
        cnics = [Nic(f"{name}/cnic{g}", cnic, cnic, charged) for g in range(setup.engines)]
        chunk = setup.least_chunk_bytes
        pool = BufferPool(segment)
        context = NodeContext(name, layout, pool, segment.slots_offset, snic, cnics, least_chunk_bytes=chunk)
        core = TrafficCore(context, rings, max(1, slots // 4), 0.02)
        node = Node(core, segment, SharedMemoryTransport(name, segment), rings)
        for g in range(setup.engines):
            send = partial(self._send, f"{name}/e{g}", name)
            random = Random(self.random.random())
            node.engines.append(
                FakePrefill(g, segment, setup.layerwise, setup.max_context_tokens, random, send)
                if prefill
                else FakeDecode(g, segment, random, send, self._on_ended)
            )
        return node

    def close(self) -> None:
        """Leave nothing in /dev/shm."""
        for node in self.nodes.values():
            node.transport.close()
            node.segment.unlink()
            os.close(node.segment.fd)

    # what a client does ----------------------------------------------------------------------------------------------

    def submit(
        self,
        request_id: str,
        tokens: Sequence[int],
        gen_tokens: int,
        path: ReadPath,
        prefill: tuple[str, int] = ("p0", 0),
        decode: tuple[str, int] = ("d0", 0),
        attempt: int = 1,
    ) -> FakeRequest:
        """Look the prompt up, pin its hit and hand the request to both of its engines."""
        keys = block_keys(np.array(tokens), self.setup.layout.block_tokens, SALT)
        hits, written_later = self.storage.lookup(f"{request_id}.{attempt}", keys, len(tokens))
        request = FakeRequest(
            request_id,
            attempt,
            request_id.split("#")[0],
            tuple(tokens),
            tuple(keys),
            hits,
            tuple(written_later),
            gen_tokens,
            path,
            prefill,
            decode,
        )
        self.requests[request.key] = request
        for node, engine in (prefill, decode):
            self._links.setdefault(("scheduler", f"{node}/e{engine}"), deque()).append(request)
        return request

    def cancel(self, key: tuple[str, int]) -> None:
        """Stop an attempt, wherever it is."""
        node, engine = self.requests[key].decode
        decode = self.nodes[node].engines[engine]
        assert isinstance(decode, FakeDecode)
        if key not in self.ended:
            decode.cancel(key)

    def _on_ended(self, request: FakeRequest, tokens: list[int] | None) -> None:
        assert request.key not in self.ended
        self.ended[request.key] = tuple(tokens) if tokens is not None else None
        self.storage.unpin(f"{request.request_id}.{request.attempt}")
        self.on_ended(request, self.ended[request.key])

    # what happens next -----------------------------------------------------------------------------------------------

    def actions(self) -> list[Callable[[], None]]:
        """Everything but the passing of time."""
        actions = [partial(self._deliver, link) for link, queue in self._links.items() if queue]
        actions += [partial(self._finish, op) for op in self.operations if op.kind not in self.held]
        for node in self.nodes.values():
            for engine in node.engines:
                actions += engine.actions()
        return actions

    def step(self) -> bool:
        """One action; False when nothing can happen any more."""
        actions = self.actions()
        times = [t for node in self.nodes.values() if (t := node.core.next_deadline_s()) is not None]
        if times and (not actions or self.random.random() < 0.1):
            self.now_s = max(self.now_s, min(times)) + self.random.choice([0.0, 0.0, 0.001, 0.1])
            for name in self.nodes:
                self.handle(name, Tick())
        elif actions:
            self.random.choice(actions)()
        return bool(actions or times)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Until ``until`` holds or nothing can happen any more."""
        for _ in range(MAX_STEPS):
            if until() or not self.step():
                return
        raise AssertionError(f"no end after {MAX_STEPS} steps")

    def _deliver(self, link: tuple[str, str]) -> None:
        source, target = link
        message = self._links[link].popleft()
        self.counts[type(message).__name__] += 1
        if "/" in target:
            node, _, engine = target.partition("/e")
            if not isinstance(message, m.NodeState):
                self.nodes[node].engines[int(engine)].on_message(message)
        elif "/" in source:
            self.handle(target, FromEngine(message))
        else:
            self.handle(target, FromPeer(source, message))

    def _send(self, source: str, target: str, message: Any) -> None:
        self._links.setdefault((source, target), deque()).append(m.decode(m.encode(message)))

    def handle(self, name: str, event: Event) -> None:
        """Feed a core and take down what it asks for."""
        node = self.nodes[name]
        for effect in node.core.handle(event, self.now_s):
            if isinstance(effect, Send):
                target = effect.to if isinstance(effect.to, str) else f"{name}/e{effect.to}"
                self._send(name, target, effect.message)
            elif isinstance(effect, Fail):
                raise AssertionError(effect.error)
            elif isinstance(effect, IndexCall):
                self.index_calls[effect.method] += 1
                call = partial(
                    self.storage.call, effect.method, effect.args, partial(self._index_answers, name, effect.op)
                )
                self.operations.append(Operation(name, "index", call))
            elif isinstance(effect, ReadBlock):
                self._operation(name, "read", effect.op, partial(self._read, node, effect), {(name, effect.slot)})
            elif isinstance(effect, WriteBlock):
                self._operation(name, "write", effect.op, partial(self._write, node, effect), {(name, effect.slot)})
            elif isinstance(effect, CopyPool):
                move = node.transport.write if effect.write else node.transport.read
                places = self._slots_of(name, effect.batch.local) | self._slots_of(effect.peer, effect.batch.remote)
                self._operation(name, "copy", effect.op, partial(move, effect.peer, effect.batch), places)
        self._check_leases()

    def _operation(self, node: str, kind: str, op: int, work: Callable[[], None], places: set[tuple[str, int]]) -> None:
        def finish() -> None:
            try:
                work()
                done = OpDone(op)
            except DualPathError as error:
                self.counts[f"failed {kind}"] += 1
                done = OpDone(op, None, error)
            self.handle(node, done)

        self.counts[kind] += 1
        self.operations.append(Operation(node, kind, finish, {place: self._lease(place) for place in places}))

    def _finish(self, operation: Operation) -> None:
        self.operations.remove(operation)
        operation.finish()

    def _index_answers(self, node: str, op: int, result: Any) -> None:
        """The answer travels for a while, too."""
        self.operations.append(Operation(node, "answer", lambda: self.handle(node, OpDone(op, result))))

    def _read(self, node: Node, effect: ReadBlock) -> None:
        slot = node.segment.slots[effect.slot]
        if self.unreadable:
            raise StorageError("input/output error")
        if self.unended_reads:
            self.unended_reads -= 1
            place = (node.core.context.node, effect.slot)
            self.counts["late read"] += 1
            late = partial(slot.fill, 255)
            self.operations.append(Operation(place[0], "late read", late, {place: self._lease(place)}))
            raise UnendedReadError("it did not end")
        self.storage.store.read(effect.key, slot)
        verify(slot, effect.key, self.setup.layout)

    def _write(self, node: Node, effect: WriteBlock) -> None:
        slot = node.segment.slots[effect.slot]
        seal(slot, SealedHeader(self.setup.layout, 0, effect.key, effect.parent))
        self.storage.write(effect.key, slot)

    # what must always hold -------------------------------------------------------------------------------------------

    def _slots_of(self, node: str, offsets: np.ndarray) -> set[tuple[str, int]]:
        start = self.nodes[node].segment.slots_offset
        in_slots = offsets[offsets >= start]
        return {(node, int(slot)) for slot in (in_slots - start) // self.setup.layout.slot_bytes}

    def _lease(self, place: tuple[str, int]) -> tuple[int, bytes]:
        record = self.nodes[place[0]].segment.table[place[1]]
        assert record["state"] != FREE, f"an operation in slot {place[1]} of {place[0]}, which is free"
        return int(record["attempt"]), bytes(record["owner"])

    def _check_leases(self) -> None:
        """No slot changes hands while an operation in it is under way, and none is given back twice."""
        for operation in self.operations:
            for place, lease in operation.leases.items():
                assert self._lease(place) == lease, f"slot {place} changed hands during a {operation.kind}"
        for node in self.nodes.values():
            assert node.core.context.pool.num_free == np.count_nonzero(node.segment.table["state"] == FREE)

    def check_over(self) -> None:
        """Everything has ended: nothing is held, and every byte on every NIC is accounted for."""
        waiting = sorted(set(self.requests) - set(self.ended))
        states = {name: node.core.status(self.now_s) for name, node in self.nodes.items()}
        assert not waiting, f"stuck: {waiting}, {states}"
        assert not self.operations
        for name, node in self.nodes.items():
            pool = node.core.context.pool
            assert pool.num_free + pool.num_lost == pool.num_slots, pool.leases()
            assert [ring.in_use for ring in node.rings] == [0] * len(node.rings)
            assert all(engine.idle for engine in node.engines)
            zero = ("open_requests", "read_queue_tokens", "writing_blocks")
            assert {key: states[name][key] for key in zero} == dict.fromkeys(zero, 0)
            assert all(nic["queued_bytes"] == 0 for nic in states[name]["nics"].values())
        self._check_bytes(states)

    def _check_bytes(self, states: dict[str, Any]) -> None:
        charged = int(self.setup.charged)
        sealed, total = self.setup.layout.sealed_bytes, Counter()
        for name, state in states.items():
            for nic, counted in state["nics"].items():
                total[f"{name[0]}/{nic.split('/')[1].rstrip('0123456789')}/{nic.split('/')[2]}"] += counted["bytes"]
        assert sum(state["read_bytes"] for state in states.values()) == self.counts["read"] * sealed
        assert total["p/snic/in"] + total["d/snic/in"] == self.counts["read"] * sealed * charged
        assert total["p/snic/out"] == 0
        assert total["d/snic/out"] == self.counts["write"] * sealed * charged
        expected_in, expected_out = self.expected_cnic_bytes()
        assert total["p/cnic/in"] == total["d/cnic/out"] == expected_in * charged
        assert total["p/cnic/out"] == total["d/cnic/in"] == expected_out * charged

    def expected_cnic_bytes(self) -> tuple[int, int]:
        """(in, out) of the prefill nodes' CNICs by the formulas, from the chunks that the engines computed."""
        size = self.setup.layout.block_tokens
        parts = [
            cnic_bytes(self.setup.layout, request.path, hits * size, stops)
            for node in self.nodes.values()
            for engine in node.engines
            if isinstance(engine, FakePrefill)
            for request, hits, stops in engine.chunks.values()
        ]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    def total(self, counter: str) -> int:
        """Sum of a counter of ``TrafficCore.status`` over the nodes."""
        return sum(node.core.status(self.now_s)[counter] for node in self.nodes.values())


@contextmanager
def world(setup: Setup = Setup(), seed: int = 0) -> Iterator[World]:  # noqa: B008  (frozen)
    """A system that leaves nothing behind."""
    made = World(setup, Random(seed))
    try:
        yield made
    finally:
        made.close()
