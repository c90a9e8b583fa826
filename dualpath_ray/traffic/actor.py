"""The traffic manager of a node: a thin shell that feeds the core and carries out what it says."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray

from dualpath_ray.base.errors import DualPathError, StorageError, TransportError
from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.nic_choice import (
    AUTO,
    SNIC_KEY,
    NicChoice,
    both_roles,
    can_mark,
    choose_cnics,
    choose_snic,
    named_device,
    ucx_devices,
)
from dualpath_ray.base.nic_devices import address_towards, read_devices
from dualpath_ray.base.types import Role, TrafficClass
from dualpath_ray.base.units import bytes_per_s, format_bytes_per_s
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal
from dualpath_ray.kv.segment import BufferPool, Segment, segment_path
from dualpath_ray.observability.latency import StoreLatency
from dualpath_ray.observability.ray_export import NODE, Exporter, ExportSettings
from dualpath_ray.observability.span_sinks import span_sinks
from dualpath_ray.storage.client import ShardedIndex
from dualpath_ray.storage.io_pool import IoPool
from dualpath_ray.storage.port import read_verified
from dualpath_ray.storage.sharded import Access, Shard, open_shards
from dualpath_ray.traffic.carriers import Carriers
from dualpath_ray.traffic.context import NodeContext
from dualpath_ray.traffic.core import TrafficCore
from dualpath_ray.traffic.core_runner import CoreRunner
from dualpath_ray.traffic.effects import (
    CopyPool,
    Effect,
    Fail,
    FromEngine,
    FromPeer,
    IndexCall,
    OpDone,
    ReadBlock,
    Send,
    WriteBlock,
)
from dualpath_ray.traffic.link import Link, LinkAt, NodeListener, link_path, listen, read_all
from dualpath_ray.traffic.messages import Hello
from dualpath_ray.traffic.nic import Nic
from dualpath_ray.traffic.prefill_side import StagingRing, region_layout
from dualpath_ray.transport.choice import Choice
from dualpath_ray.transport.load import Around, make_transport
from dualpath_ray.transport.port import AskPeer, TwoSidedTransport, copier

_LINK_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a traffic manager is told of its node. Rates are of emulated NICs, bytes per second; None is not emulated."""

    system: str
    shm_name: str  # of segments and sockets
    node: str
    nodes: tuple[str, ...]  # of the system
    role: Role
    num_engines: int
    layout: KvLayout
    num_slots: int
    staging_bytes: int
    staging_layers: int  # layers in flight between NIC and engine; all of them without layerwise
    buffer_key: str  # the configuration key that sized the buffer, for errors
    snic: str  # names of devices, or auto
    cnics: tuple[str, ...]  # one, or one for each engine
    on_gpus: bool  # whether the engines are
    snic_in_bytes_per_s: float | None
    snic_out_bytes_per_s: float | None
    cnic_bytes_per_s: float | None
    snic_lanes: Lanes
    cnic_lanes: Lanes
    tos: Mapping[TrafficClass, int]  # type of service of each class's packets between nodes
    marks: Mapping[TrafficClass, Mark]  # the same of UCX's packets, by RDMA
    charged: bool  # False: oracle, no I/O is charged
    store: str
    store_root: str
    verify: bool
    transport: str
    max_write_back_blocks: int
    store_access: Access
    least_io_depth: int
    most_io_depth: int
    report_interval_s: float
    observe: ExportSettings


def traffic_name(node: str) -> str:
    """Of the actor, in the namespace of its system."""
    return f"traffic/{node}"


@dataclass(frozen=True, slots=True)
class NodeAt:
    """What a peer needs to reach this node: its pool (``Transport.describe``) and its traffic manager."""

    pool: bytes
    link: LinkAt


@dataclass(frozen=True, slots=True)
class CnicAt:
    """A compute NIC: an IPv4 address, its network interface where known, and its RDMA device and port where it has one."""

    address: str
    interface: str | None
    rdma: str | None


class TrafficManager:
    """Owns the node's pool, leases and NICs; reads and writes storage; moves KV between pools."""

    def __init__(self, spec: NodeSpec, storage_nodes: list[Any], shards: list[Shard]) -> None:
        """Args: shards: of the storage nodes. Raises: ConfigError when the buffer does not fit into /dev/shm."""
        self._spec = spec
        self._storage_nodes = storage_nodes
        host, address = read_devices(), ray.util.get_node_ip_address()
        snic_at = (
            named_device(spec.snic, SNIC_KEY, f"the host of {spec.node}", host).address if spec.snic != AUTO else None
        )
        self._cnics = choose_cnics(spec.cnics, spec.node, host, spec.num_engines, address, spec.on_gpus, spec.transport)
        self._cnic_address = next((cnic.address for cnic in self._cnics if cnic.address), address)
        self._carriers = Carriers({}, host.carrying(self._cnic_address), ucx_devices(spec.cnics, self._cnics, host))
        path = segment_path(spec.shm_name, spec.node)
        self._segment = Segment.create(path, spec.layout, spec.num_slots, spec.staging_bytes, spec.buffer_key)
        self._store = open_shards(
            spec.store, spec.store_root, spec.layout, shards, spec.store_access, spec.node, snic_at
        )
        routes = {storage: address_towards(storage) for storage in self._store.served_by}
        self._snic = choose_snic(spec.snic, spec.node, host, routes)
        self._store.attach(self._segment.bytes, str(path))
        one_host = len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}) == 1
        around = Around(
            self._cnic_address,
            spec.system,
            spec.nodes,
            one_host,
            self._help_of,
            spec.tos,
            spec.marks if can_mark(self._carriers.ucx or host.nics) else {},
            ",".join(device.ucx_name for device in self._carriers.ucx) or None,
        )
        self._transport = make_transport(spec.transport, spec.node, self._segment, around)
        self._copy_as = copier(self._transport)
        self._index = ShardedIndex(len(storage_nodes), self._call_index)
        self._core = self._make_core()
        self._core.context.spans.sinks = span_sinks(spec.node)
        self._runner = CoreRunner(self._core, f"traffic manager of {spec.node}", self._execute, self._core_failed)
        depth = spec.least_io_depth, spec.most_io_depth
        self._reads, self._writes = IoPool("storage-read", *depth), IoPool("storage-write", *depth)
        self._copy = ThreadPoolExecutor(max(2, spec.num_engines), "pool-copy")
        self._engines: dict[int, Link] = {}
        self._peers: dict[str, Link] = {}
        self._left: set[Link] = set()  # of peers that have left the system: their end is no failure
        self._failure: DualPathError | None = None
        self._stopping = False
        of = {"node": spec.node, "role": str(spec.role)}
        self._latency = StoreLatency({"system": spec.system, **of})
        self._server = listen(link_path(spec.shm_name, spec.node), self._on_engine)
        self._listener = NodeListener(address, self._on_node)
        self._runner.start()
        self._exporter = Exporter(spec.observe, NODE, of, self.__repr__, self.status, self._latency.take)

    def __repr__(self) -> str:
        """Shown in the Ray dashboard's actor table: its NICs' devices, and their rate where they are emulated."""
        spec = self._spec
        snic = _nic_words([self._snic], spec.snic_in_bytes_per_s)
        cnic = _nic_words(self._cnics, spec.cnic_bytes_per_s)
        return f"TrafficManager {spec.node} (snic {snic}, cnic {cnic})"

    def _make_core(self) -> TrafficCore:
        spec, segment = self._spec, self._segment
        context = NodeContext(
            spec.node,
            spec.layout,
            BufferPool(segment),
            segment.slots_offset,
            Nic(
                f"{spec.node}/snic", spec.snic_in_bytes_per_s, spec.snic_out_bytes_per_s, spec.charged, spec.snic_lanes
            ),
            [
                Nic(f"{spec.node}/cnic{g}", spec.cnic_bytes_per_s, spec.cnic_bytes_per_s, spec.charged, spec.cnic_lanes)
                for g in range(spec.num_engines)
            ],
            can_read=self._can_read(),
        )
        context.snic.carried_by(self._snic.name, _link_rate(self._snic))
        depth = min(spec.staging_layers, spec.layout.num_layers)
        region = region_layout(spec.layout, spec.staging_bytes, spec.num_engines, depth)
        rings = [
            StagingRing(segment.staging_offset + g * depth * region, region, depth)
            for g in range(spec.num_engines if spec.role is Role.PREFILL else 0)
        ]
        return TrafficCore(context, rings, spec.max_write_back_blocks, spec.report_interval_s)

    def _can_read(self) -> bool:
        try:
            self._store.check()
        except StorageError:
            return False  # this node has no way to the store: the scheduler reads on the other side
        return True

    # wiring ----------------------------------------------------------------------------------------------------------

    def describe(self) -> NodeAt:
        """What a peer needs to reach this node."""
        return NodeAt(self._transport.describe(), self._listener.at)

    def connect(self, peers: dict[str, NodeAt]) -> None:
        """Reach the pools of nodes of the other role, and link up with those whose name comes after ours.

        Called again when nodes join.

        Raises: TransportError, LayoutError naming both nodes.
        """
        for node, at in peers.items():
            self._transport.connect(node, at.pool)
            if node > self._spec.node:
                self._on_node(node, Link.dial_node(at.link, self._spec.node))
        self._carried({*self._carriers.transports, *peers})
        deadline = time.monotonic() + _LINK_TIMEOUT_S
        while missing := sorted(set(peers) - set(self._peers)):
            if time.monotonic() > deadline:
                raise TransportError(
                    f"{self._spec.node} heard nothing of {', '.join(missing)} within {_LINK_TIMEOUT_S} s"
                )
            time.sleep(0.01)

    def disconnect(self, peer: str) -> None:
        """A node leaves the system: nothing is under way with it any more."""
        link = self._peers.pop(peer, None)
        if link is not None:
            self._left.add(link)
            link.close()
        self._transport.disconnect(peer)
        self._carried(set(self._carriers.transports) - {peer})

    def _carried(self, peers: Iterable[str]) -> None:
        """Tell the CNICs their devices."""
        choices: Mapping[str, Choice] = getattr(self._transport, "choices", {})  # of a transport that makes some
        names = {peer: choices[peer].name if choices else self._transport.name for peer in peers}
        self._carriers = carriers = replace(self._carriers, transports=names)
        self._core.context.on_host = carriers.on_host
        for cnic in self._core.context.cnics:
            cnic.carried_by(carriers.name, _link_rate(carriers))

    def _help_of(self, peer: str) -> AskPeer:
        traffic_manager = ray.get_actor(traffic_name(peer), namespace=self._spec.system)
        remote: AskPeer = traffic_manager.help_transport.remote
        return remote

    def help_transport(self, *request: Any) -> Any:
        """Take part in a copy that a peer drives. Raises: TransportError when this node's transport has no such copies."""
        if not isinstance(self._transport, TwoSidedTransport):
            raise TransportError(
                f"{self._spec.node}: transport {self._spec.transport} takes no part in a peer's copies"
            )
        return self._transport.help(*request)

    def _on_engine(self, name: str, link: Link) -> None:
        engine = int(name.partition(":")[2])
        self._engines[engine] = link
        if self._runner.over:  # it would wait for answers that nobody gives
            link.close()
        self._runner.take(FromEngine(Hello(name)))
        # An engine may wait for the answer: its messages are handled where they are read.
        read_all(link, lambda m: self._runner.take(FromEngine(m)), lambda: self._lost(f"engine {engine}"), name)

    def _on_node(self, node: str, link: Link) -> threading.Thread:
        self._peers[node] = link
        lost = partial(self._peer_ended, node, link)
        return read_all(link, lambda m: self._runner.put(FromPeer(node, m)), lost, f"peer:{node}")

    def _peer_ended(self, node: str, link: Link) -> None:
        if link in self._left:
            self._left.discard(link)
        else:
            self._lost(f"node {node}")

    def _lost(self, who: str) -> None:
        if not self._stopping:
            self._fail(TransportError(f"{self._spec.node} lost its link to {who}"))

    def _fail(self, error: DualPathError) -> None:
        self._failure = self._failure or error

    def _core_failed(self, reason: DualPathError) -> None:
        """Engines that wait for an answer must hear that none will come."""
        self._fail(reason)
        for link in list(self._engines.values()):
            link.close()

    # what the core says ----------------------------------------------------------------------------------------------

    def _execute(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            link = self._peers[effect.to] if isinstance(effect.to, str) else self._engines.get(effect.to)
            if link is not None:  # node states come before the engines are here
                link.send(effect.message)
        elif isinstance(effect, ReadBlock):
            self._done_with(effect.op, self._reads.submit(partial(self._read, effect), self._spec.layout.sealed_bytes))
        elif isinstance(effect, WriteBlock):
            self._done_with(
                effect.op, self._writes.submit(partial(self._write, effect), self._spec.layout.sealed_bytes)
            )
        elif isinstance(effect, CopyPool):
            move = partial(self._copy_as, effect.traffic_class, effect.peer, effect.batch, effect.write)
            if effect.batch.total_bytes <= self._transport.inline_bytes:
                self._runner.at_once(self._outcome(effect.op, move))
            else:
                self._done_with(effect.op, self._copy.submit(move))
        elif isinstance(effect, IndexCall):
            self._done_with(effect.op, self._index_call(effect))
        elif isinstance(effect, Fail):
            self._fail(effect.error)

    def _outcome(self, op: int, work: Callable[[], Any]) -> OpDone:
        try:
            return OpDone(op, work())
        except Exception as error:  # whatever failed, the core must hear of it
            return OpDone(op, None, self._own(error))

    def _own(self, error: BaseException) -> DualPathError:
        return error if isinstance(error, DualPathError) else StorageError(f"{self._spec.node}: {error!r}")

    def _done_with(self, op: int, future: Future[Any]) -> None:
        def done(finished: Future[Any]) -> None:
            if finished.cancelled():  # this node stops
                return
            error = finished.exception()
            if error is None:
                self._runner.put(OpDone(op, finished.result()))
            else:
                self._runner.put(OpDone(op, None, self._own(error)))

        future.add_done_callback(done)

    def _read(self, effect: ReadBlock) -> None:
        slot = self._segment.slots[effect.slot]
        started_s = time.monotonic()
        if self._spec.verify:
            read_verified(self._store, effect.key, slot, self._spec.layout)
        else:
            self._store.read(effect.key, slot)
        self._latency.add("read", time.monotonic() - started_s)

    def _write(self, effect: WriteBlock) -> None:
        slot = self._segment.slots[effect.slot]
        seal(slot, SealedHeader(self._spec.layout, effect.weights_version, effect.key, effect.parent))
        started_s = time.monotonic()
        self._store.write(effect.key, slot)
        self._latency.add("write", time.monotonic() - started_s)

    def _index_call(self, effect: IndexCall) -> Future[Any]:
        if effect.method in ("commit", "abort"):
            return self._index.by_key(effect.method, effect.args[0])
        call: Callable[..., Future[Any]] = getattr(self._index, effect.method)
        return call(*effect.args)

    def _call_index(self, shard: int, method: str, args: tuple[Any, ...]) -> Future[Any]:
        future: Future[Any] = getattr(self._storage_nodes[shard], method).remote(*args).future()
        return future

    # for clients -----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Counters of this node (``TrafficCore.status``), stamped with the wall clock.

        Raises: TransportError with the reason when its core has failed.
        """
        more = {
            "cpu_s": sum(os.times()[:2]),
            "time_s": time.time(),
            "transports": self._transports(),
            "devices": self.devices(),
        }
        return {**self._runner.status(), **more}

    def devices(self) -> dict[str, str]:
        """Per NIC its device, and why it is that one; under ``both`` a sentence where one has both roles."""
        carriers = self._carriers
        named = {self._core.context.snic.name: str(self._snic)}
        for cnic, choice in zip(self._core.context.cnics, self._cnics, strict=True):
            named[cnic.name] = f"{choice}{carriers.says(choice.name)}"
        shared = both_roles(self._snic, carriers.devices)
        return {**named, **({"both": shared} if shared else {})}

    def cnic_at(self, engine: int) -> CnicAt:
        """Where an engine's compute NIC is, for others than this node's transport."""
        own, shared = self._cnics[engine], self._carriers.sockets
        device = own.device
        by_ip = device if own.address else shared
        return CnicAt(
            own.address or self._cnic_address,
            by_ip.name if by_ip else None,
            device.ucx_name if device and device.rdma_up else None,
        )

    def snic_bytes_per_s(self) -> float | None:
        """Of the storage NIC's link; None where it is not known."""
        return _link_rate(self._snic)

    def _transports(self) -> dict[str, str]:
        """Per peer the transport of its copies, and why it is that one."""
        choices = getattr(self._transport, "choices", {})
        return {peer: f"{choice.name}: {choice.why}" for peer, choice in choices.items()}

    def read_spans(self, after: int = 0) -> list[tuple[float, float, int]]:
        """(asked, done, bytes) of every block read after the first ``after``, seconds of this host's monotonic clock.

        ``num_reads`` of the status counts them; of very many only the last are kept.
        """
        reads = self._core.reads
        spans = list(reads.spans)
        return spans[max(0, after - (reads.num_reads - len(spans))) :]

    def request_spans(self, request_id: str) -> list[dict[str, Any]]:
        """What was done here for a request, as far back as is kept (``SpanLog.of``)."""
        return self._core.context.spans.of(request_id)

    def leases(self) -> list[tuple[int, str, int]]:
        """(slot, owner, attempt) of every live lease."""
        return BufferPool(self._segment).leases()

    def ping(self) -> str:
        """Raises: TransportError, StoreFullError and others with the reason when this node cannot go on."""
        if self._failure is not None:
            raise self._failure
        return self._spec.node

    def ray_node(self) -> str:
        """Id of the Ray node that this traffic manager runs on."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def stop(self) -> None:
        """End the threads and remove segment and socket: first their names, for a read that is stuck may outlast this call.

        Who has mapped the segment keeps its memory.
        """
        self._segment.unlink()
        link_path(self._spec.shm_name, self._spec.node).unlink(missing_ok=True)
        self._stopping = True
        self._exporter.stop()
        self._runner.stop()
        self._server.close()
        self._listener.close()
        for link in (*self._engines.values(), *self._peers.values()):
            link.close()
        for pool in (self._reads, self._writes):
            pool.close()
        self._transport.close()  # first: copies that are stuck end with it
        self._copy.shutdown(cancel_futures=True)
        self._store.close()
        self._core.context.spans.close()


def _nic_words(devices: Sequence[NicChoice], rate_bytes_per_s: float | None) -> str:
    """For people. Args: devices: of NICs that share a rate; rate_bytes_per_s: emulated."""
    names = "/".join(dict.fromkeys(device.name for device in devices if device.name))
    emulated = f"emulated {format_bytes_per_s(rate_bytes_per_s)}" if rate_bytes_per_s else ""
    return " ".join(part for part in (names, emulated) if part) or "on this host"


def _link_rate(link: NicChoice | Carriers) -> float | None:
    return bytes_per_s(link.link_bps) if link.link_bps else None


TrafficManagerActor = ray.remote(num_cpus=0, max_concurrency=8)(TrafficManager)
RdtTrafficManagerActor = ray.remote(num_cpus=0, max_concurrency=8, enable_tensor_transport=True)(TrafficManager)


def traffic_manager_actor(transport: str) -> Any:
    """The actor class that a transport needs: tensors of Ray's are switched on for those that use them."""
    return RdtTrafficManagerActor if transport in ("rdt", "rdt_cuda_ipc") else TrafficManagerActor
