"""Prefill and decode engines as Ray actors: thin shells around their loops."""

import gc
import os
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.types import Role
from dualpath_ray.engine.adapter import make_adapter
from dualpath_ray.engine.collectives import Collectives
from dualpath_ray.engine.decode import Cancel, DecodeLoop
from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.device import gpu_name
from dualpath_ray.engine.events import EventBuffer
from dualpath_ray.engine.expert_round import GroupPlace
from dualpath_ray.engine.group import GroupLeader, GroupMember
from dualpath_ray.engine.memory import DecodeMemory, PrefillMemory
from dualpath_ray.engine.prefill import PrefillLimits, PrefillLoop
from dualpath_ray.engine.profile import EngineProfile
from dualpath_ray.engine.request import EngineRequest, StepEvent
from dualpath_ray.engine.timed import TimedAdapter, TimedSequences, is_timed
from dualpath_ray.kv.segment import Segment, segment_path
from dualpath_ray.observability.ray_export import DECODE, PREFILL, Exporter, ExportSettings
from dualpath_ray.observability.span_sinks import span_sinks
from dualpath_ray.scheduler.state import Decision, GroupReport, Request
from dualpath_ray.traffic.link import Link, link_path, read_all
from dualpath_ray.traffic.messages import CollectiveDone, NodeState, Relay

if TYPE_CHECKING:
    from dualpath_ray.engine.expert_group import GroupStore


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine is told."""

    system: str
    shm_name: str  # of segments and sockets
    node: str
    role: Role
    engine: int
    num_engines: int  # of its node
    threads: int
    device: str  # cpu or cuda
    description: ModelDescription
    dtype: str
    kv_dtype: str
    seed: int
    max_context_tokens: int
    hbm_tokens: int
    urgent_s: float  # before a request's deadline its KV becomes urgent
    all_to_all_bytes: int  # of a token in a layer; 0: no model-execution traffic
    loopback: str | None  # the compute NIC that may copy between DRAM and HBM, by name or auto
    loopback_mark: Mark | None  # of its packets
    limits: PrefillLimits
    profile: EngineProfile | None
    fetch_interval_s: float
    observe: ExportSettings


class _Engine(ABC):
    """What both roles share: model, pool, link, group, events."""

    def __init__(self, spec: EngineSpec) -> None:
        """Raises: ConfigError when the model cannot be loaded."""
        # torch and transformers are imported in engines alone: scheduler and driver, which name this class, start without.
        # They make objects by the hundred thousand that stay: looking for garbage among them takes a sixth of the start.
        gc.disable()
        try:
            import torch

            torch.set_num_threads(spec.threads)
            # the loader must get its turn within a layer's compute, which may take a millisecond
            sys.setswitchinterval(0.0005)
            self.adapter = make_adapter(
                spec.description, spec.dtype, spec.seed, spec.device, spec.kv_dtype, spec.role is Role.PREFILL
            )
        finally:
            gc.enable()
        gc.freeze()  # nor does a later look take them in, which would hold up a forward
        self._spec = spec
        if spec.all_to_all_bytes:  # before a profile is taken: bursts need a break after each layer
            self.adapter.after_layer(self._after_layer)
        self._events = EventBuffer()
        self._failure = ""
        self._stopping = False
        self._profile = spec.profile
        self._loop: PrefillLoop | DecodeLoop | None = None
        self._link: Link | None = None
        self._group: GroupLeader | GroupMember | None = None
        self._collectives: Collectives | None = None
        self._group_store: GroupStore | None = None
        self._exporter: Exporter | None = None
        self._device = _device_name(spec.device)

    def __repr__(self) -> str:
        """Shown in the Ray dashboard's actor table."""
        return f"{type(self).__name__} {self._spec.node}/e{self._spec.engine} on {self._device}"

    def warm_up(self) -> dict[str, Any]:
        """Run the first forwards and return the profile: the configured one, or a short one taken now."""
        given = self._profile is not None  # then the forwards only warm up
        measured = self.adapter.profile(self._spec.max_context_tokens, 1 if given else 3)
        self._profile = self._profile or measured
        return self._profile.to_dict()

    def start(self, scheduler: Any, place: GroupPlace | None) -> None:
        """Link up with the node's traffic manager, join the group of engines if there is one, and begin to fetch work.

        Raises: TransportError when the traffic manager is not there, or not all members are.
        """
        spec = self._spec
        segment = Segment.attach(segment_path(spec.shm_name, spec.node))
        self._link = Link.dial(link_path(spec.shm_name, spec.node), f"engine:{spec.engine}")
        if spec.all_to_all_bytes:
            device = self.adapter.device if isinstance(self.adapter, TimedAdapter) else None
            self._collectives = Collectives(spec.engine, spec.all_to_all_bytes, self._link.send, device)
        self._loop = self._make_loop(segment)
        self._loop.spans.sinks = span_sinks(f"{spec.node}/e{spec.engine}")
        if spec.engine == 0:
            self._group = GroupLeader(
                spec.node,
                spec.role,
                spec.num_engines,
                spec.hbm_tokens,
                segment.layout.block_tokens,
                spec.fetch_interval_s,
                lambda report, wait_s: self._fetch(scheduler, report, wait_s),
                lambda report: scheduler.report.remote(report),
                self._dispatch,
                self._fail,
            )
        else:
            self._group = GroupMember(spec.engine, self._link.send, self._dispatch)
        read_all(self._link, self._on_message, self._on_link_end, "link")
        if place is not None and self._collectives is not None:
            self._collectives.join(place, spec.device, self._fail)
        threading.Thread(target=self._run, name=f"{spec.role}-loop", daemon=True).start()
        if isinstance(self._group, GroupLeader):
            self._group.start()
        source = PREFILL if spec.role is Role.PREFILL else DECODE
        of = {"node": spec.node, "role": str(spec.role), "engine": f"{spec.node}/e{spec.engine}"}
        self._exporter = Exporter(spec.observe, source, of, self.__repr__, self.status)

    def open_group(self, host: str) -> int:
        """Be where the engines of this role meet; the port. Raises: TransportError."""
        from dualpath_ray.engine.expert_group import GroupStore

        self._group_store = GroupStore(host)
        return self._group_store.port

    def _after_layer(self, num_tokens: int) -> None:
        if self._collectives is not None:
            self._collectives.run(num_tokens)

    def collective_times(self) -> list[tuple[float, float]]:
        """As of ``Collectives.take_times``."""
        return [] if self._collectives is None else self._collectives.take_times()

    @abstractmethod
    def status(self) -> dict[str, Any]:
        """Counters, for displays, metrics and tests; none before ``start``."""

    @abstractmethod
    def _make_loop(self, segment: Segment) -> PrefillLoop | DecodeLoop:
        """The loop of this role, not yet running."""

    def _pool_access(self, segment: Segment) -> Any:
        """Of a GPU engine. Raises: ConfigError."""
        from dualpath_ray.engine.hbm.loopback import CnicLoopback, loopback_device
        from dualpath_ray.engine.hbm.pool_access import PoolAccess

        cnic, mark = self._spec.loopback, self._spec.loopback_mark
        if cnic is None:
            return PoolAccess(segment)
        return PoolAccess(segment, partial(CnicLoopback, device=loopback_device(cnic), mark=mark))

    def _fetch(self, scheduler: Any, report: GroupReport, wait_s: float) -> list[tuple[Request, Decision]]:
        answer = scheduler.fetch.remote(report, wait_s) if wait_s > 0 else scheduler.fetch_now.remote(report)
        decisions: list[tuple[Request, Decision]] = ray.get(answer)
        return decisions

    def _dispatch(self, engine: int, request: EngineRequest) -> None:
        if engine == self._spec.engine:
            assert self._loop is not None
            self._loop.inbox.put(request)
        else:
            assert self._link is not None
            self._link.send(Relay(engine, "request", request.pack()))

    def _on_message(self, message: Any) -> None:
        if isinstance(message, NodeState):
            if isinstance(self._group, GroupLeader):
                self._group.on_node_state(message)
        elif isinstance(message, Relay):
            if isinstance(self._group, GroupMember):
                self._group.on_relay(message)
            elif self._group is not None:
                self._group.on_finished(message.data["engine"], message.data["request_id"])
        elif isinstance(message, CollectiveDone):
            if self._collectives is not None:
                self._collectives.on_done(message)
        elif self._loop is not None:
            self._loop.on_link(message)

    def _on_link_end(self) -> None:
        if not self._stopping:
            self._fail(f"engine {self._spec.node}/e{self._spec.engine} lost its traffic manager")
            if self._loop is not None:
                self._loop.stop()
        if self._collectives is not None:
            self._collectives.on_done(None)

    def _run(self) -> None:
        assert self._loop is not None
        try:
            self._loop.run()
        except Exception as error:
            if self._stopping:  # in the middle of something that ends with the link
                return
            self._fail(f"engine {self._spec.node}/e{self._spec.engine} failed: {error!r}")
            raise

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason

    def _finished(self, request_id: str) -> None:
        assert self._group is not None
        self._group.on_finished(self._spec.engine, request_id)

    # for clients -----------------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="events")
    def poll_events(self, client_id: str, wait_s: float) -> list[StepEvent]:
        """Step events of this client's requests, each told once."""
        return self._events.poll(client_id, wait_s)

    def leave(self, client_id: str) -> None:
        """A client closes."""
        self._events.leave(client_id)

    def request_spans(self, request_id: str) -> list[dict[str, Any]]:
        """What was done here for a request, as far back as is kept (``SpanLog.of``)."""
        place = f"{self._spec.node}/e{self._spec.engine}"
        return [{**span, "place": place} for span in (self._loop.spans.of(request_id) if self._loop else [])]

    def request_facts(self, request_id: str) -> dict[str, Any] | None:
        """When each stage of a request that ended here was over, and its bytes; None when it is not known any more."""
        return self._events.facts.get(request_id)

    def num_events(self) -> int:
        """Step events that no client has asked for yet."""
        return self._events.num_waiting

    def ping(self) -> str:
        """Raises: SystemDiedError with the reason when this engine cannot go on."""
        if self._failure:
            raise SystemDiedError(self._failure)
        return f"{self._spec.node}/e{self._spec.engine}"

    def ray_node(self) -> str:
        """Id of the Ray node that this engine runs on."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def pid(self) -> int:
        """Process id of this engine on its host."""
        return os.getpid()

    def stop(self) -> None:
        """End the threads."""
        self._stopping = True
        if self._exporter is not None:
            self._exporter.stop()
        if isinstance(self._group, GroupLeader):
            self._group.stop()
        if self._loop is not None:
            self._loop.stop()
        if self._collectives is not None:
            self._collectives.close()
        if self._link is not None:
            self._link.close()
        if self._loop is not None:
            self._loop.spans.close()


class PrefillEngine(_Engine):
    """A PE: the model on one device, forward batches by compute quota, layerwise prefill."""

    def _make_loop(self, segment: Segment) -> PrefillLoop:
        assert self._profile is not None
        description = self._spec.description
        predictor = self._profile.predictor(description.num_heads, description.head_dim)
        return PrefillLoop(
            self._spec.engine,
            self.adapter,
            segment.layout,
            self._prefill_memory(segment),
            self._spec.limits,
            predictor,
            self._link_send,
            self._events.emit,
            self._finished,
            self._spec.urgent_s,
        )

    def _prefill_memory(self, segment: Segment) -> PrefillMemory:
        spec = self._spec
        if spec.device == "cpu":
            from dualpath_ray.engine.layerwise import DramBatches

            return DramBatches(segment, spec.engine, spec.limits.layerwise, self._link_send)
        from dualpath_ray.engine.hbm.layerwise import HbmBatches

        return HbmBatches(self._pool_access(segment), spec.engine, spec.limits.layerwise, self._link_send)

    def _link_send(self, message: Any) -> None:
        assert self._link is not None
        self._link.send(message)

    def status(self) -> dict[str, Any]:
        loop = self._loop
        assert isinstance(loop, PrefillLoop)
        return {
            "engine": f"{self._spec.node}/e{self._spec.engine}",
            "num_batches": loop.num_batches,
            "computed_tokens": loop.computed_tokens,
            "compute_s": loop.compute_s,
            "kv_outside_pool_peak_bytes": loop.memory.meter.peak_bytes,
            "overlapped_pairs": loop.overlapped_pairs,
            "layer_pairs": loop.layer_pairs,
            "stall_s": loop.stall_s,
            "batch_requests": loop.batch_requests,
            "running_requests": loop.num_requests,
            "predicted_s": loop.predicted_s,
            "quota_s": loop.limits.quota_s,
            "cpu_s": sum(os.times()[:2]),
        }


class DecodeEngine(_Engine):
    """A DE: the model on one device, continuous batching, every full block handed over as it fills."""

    def _make_loop(self, segment: Segment) -> DecodeLoop:
        assert self._link is not None
        return DecodeLoop(
            self._spec.engine,
            self.adapter,
            segment.layout,
            self._decode_memory(segment),
            self._link.send,
            self._events.emit,
            self._finished,
            self._spec.urgent_s,
        )

    def _decode_memory(self, segment: Segment) -> DecodeMemory:
        if is_timed(self._spec.description.model):
            return TimedSequences(segment)
        if self._spec.device == "cpu":
            from dualpath_ray.engine.sequences import DramSequences

            return DramSequences(segment)
        from dualpath_ray.engine.hbm.sequences import HbmSequences

        return HbmSequences(self._pool_access(segment), self._spec.hbm_tokens)

    def cancel(self, request_id: str) -> None:
        """Stop a request wherever it is; its finished event says ``cancelled``."""
        assert self._loop is not None
        self._loop.inbox.put(Cancel(request_id))

    def status(self) -> dict[str, Any]:
        loop = self._loop
        assert isinstance(loop, DecodeLoop)
        return {
            "engine": f"{self._spec.node}/e{self._spec.engine}",
            "num_steps": loop.num_steps,
            "generated_tokens": loop.generated_tokens,
            "batch_requests": loop.generated_tokens,  # a sequence gets one token a step
            "running_requests": loop.num_requests,
            "kv_tokens": loop.kv_tokens,
            "hbm_tokens": self._spec.hbm_tokens,
            "compute_s": loop.compute_s,
            "cpu_s": sum(os.times()[:2]),
        }


def _device_name(device: str) -> str:
    """For people: ``cpu``, or the GPU by Ray's number and its name."""
    if device == "cpu":
        return device
    numbers = ", ".join(map(str, ray.get_gpu_ids()))
    return f"GPU {numbers} ({gpu_name()})" if numbers else gpu_name()


# Polls wait in threads of their own, one a client: were they to fill the default group, no ping or cancel could get in.
PrefillEngineActor = ray.remote(max_concurrency=8, concurrency_groups={"events": 64})(PrefillEngine)
DecodeEngineActor = ray.remote(max_concurrency=8, concurrency_groups={"events": 64})(DecodeEngine)
