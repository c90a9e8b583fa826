"""The simulated cluster: the live scheduler's core decides, nodes and engines of simulated time carry it out."""

from collections.abc import Callable, Iterable
from typing import Any

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import Decision, GroupReport
from dualpath_ray.simulator.costs import PrefillModel
from dualpath_ray.simulator.decode import DecodeEngine
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.fair_share import FairShare
from dualpath_ray.simulator.leader import SimLeader
from dualpath_ray.simulator.node import SimNode, move
from dualpath_ray.simulator.prefill import PrefillEngine, PrefillGroup
from dualpath_ray.simulator.processor import OwnProcessor, Processor, SharedCores
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.simulator.spec import ClusterSpec


class SimSystem:
    """The life of a request, as ARCHITECTURE.md tells it, in events. ``ended`` gets each request when it is over."""

    def __init__(self, loop: EventLoop, spec: ClusterSpec, ended: Callable[[SimRequest], None]) -> None:
        self._loop, self._spec, self._ended = loop, spec, ended
        self.core = SchedulerCore(spec.limits, load_policy(spec.read_path), keep_inputs=False)
        self.cores = FairShare(loop, spec.cores, min(spec.threads, spec.cores)) if spec.cores else None
        servers = None
        if spec.storage_bytes_per_s:
            servers = FairShare(loop, spec.storage_bytes_per_s, spec.rates.snic_in or spec.storage_bytes_per_s)
        model = PrefillModel(spec.prefill_costs, spec.model)
        self.nodes: dict[str, SimNode] = {}
        self.prefill: dict[str, PrefillEngine] = {}
        self.decode: dict[str, DecodeEngine] = {}
        self.leaders: dict[str, SimLeader] = {}
        for role, count in ((Role.PREFILL, spec.prefill_nodes), (Role.DECODE, spec.decode_nodes)):
            for index in range(count):
                node = SimNode(loop, spec, role, index, servers)
                self.nodes[node.name] = node
                ids = []
                for i in range(spec.engines):
                    engine: PrefillEngine | DecodeEngine
                    if role is Role.PREFILL:
                        engine = PrefillEngine(spec, node, i, model)
                        self.prefill[engine.engine_id] = engine
                    else:
                        engine = DecodeEngine(loop, node, i, self._processor(), spec.decode_costs, self._decoded)
                        self.decode[engine.engine_id] = engine
                    ids.append(engine.engine_id)
                self.leaders[node.name] = SimLeader(
                    loop, node, ids, spec.layout.block_tokens, spec.hbm_tokens, spec.report_interval_s, self._on_report
                )
        engines = list(self.prefill.values())
        self.prefill_groups = [
            PrefillGroup(
                loop,
                spec,
                engines[i : i + spec.prefill_group],
                self._processor(),
                model,
                self._first_token,
                self._read_over,
            )
            for i in range(0, len(engines), spec.prefill_group)
        ]
        self._requests: dict[str, SimRequest] = {}
        self._started = False
        for leader in self.leaders.values():
            leader.report_now()
        self._started = True

    @property
    def num_under_way(self) -> int:
        """Requests that have been submitted and are not over."""
        return len(self._requests)

    def submit(self, requests: Iterable[SimRequest]) -> None:
        """Turns are submitted together; what is stored of them is looked up, and they enter the waiting queue."""
        new = list(requests)
        for request in new:
            self._requests[request.request.request_id] = request
        self._after(self._spec.delays.submit_s, self._wait, new)

    def _wait(self, new: list[SimRequest]) -> None:
        self.core.submit([request.request for request in new])
        self._plan()

    def _after(self, delay_s: float, call: Callable[[Any], None], argument: Any) -> None:
        """Go on when messages and software have taken their time, of a core where engines share cores."""
        if not delay_s:
            call(argument)
        elif self.cores:
            self.cores.start(delay_s, call, argument)
        else:
            self._loop.at(self._loop.now_s + delay_s, call, argument)

    def _processor(self) -> Processor:
        return SharedCores(self.cores) if self.cores else OwnProcessor(self._loop)

    def _on_report(self, report: GroupReport) -> None:
        self.core.report(report)
        if self._started:
            self._plan()

    def _plan(self) -> None:
        for decision in self.core.plan():
            self._dispatch(decision)

    def _dispatch(self, decision: Decision) -> None:
        request = self._requests[decision.request_id]
        request.path, request.reason = decision.read_path, decision.reason
        prefill = request.prefill = self.prefill[decision.prefill_engine]
        decode = request.decode = self.decode[decision.decode_engine]
        self.leaders[decision.prefill_node].on_assigned(prefill.index, request.request, decision.seq)
        self.leaders[decision.decode_node].on_assigned(decode.index, request.request, decision.seq)
        size = self._spec.layout.block_tokens
        request.prompt_blocks = -(-request.request.prompt_tokens // size)
        request.hit_blocks = request.request.hit_tokens // size
        decode.node.free_blocks -= request.prompt_blocks  # the scheduler has seen that there is room
        reader = prefill.node if request.path is ReadPath.PE else decode.node
        reader.read_queue_tokens += request.request.hit_tokens
        self._assigned(request)

    def _assigned(self, request: SimRequest) -> None:
        """Both engines have it: what is a hit is read."""
        request.assigned_s = request.read_start_s = self._loop.now_s
        if not request.hit_blocks or not self._spec.prefetch:
            request.ready_s = self._loop.now_s
            request.prefill.add(request)
        elif request.path is ReadPath.PE:
            request.prefill.node.lease(request.hit_blocks, self._read, request)
        else:
            self._read(request)

    def _read(self, request: SimRequest) -> None:
        request.read_start_s = self._loop.now_s
        reader = request.prefill.node if request.path is ReadPath.PE else request.decode.node
        reader.read(request.hit_blocks * self._spec.layout.sealed_bytes, self._on_read, request)

    def _on_read(self, request: SimRequest) -> None:
        self._read_over(request)
        if request.written_s > self._loop.now_s:  # a block whose write is under way is waited for
            self._loop.at(request.written_s, self._read_through, request)
        else:
            self._read_through(request)

    def _read_through(self, request: SimRequest) -> None:
        self._after(self._spec.delays.read_s, self._source_ready, request)

    def _read_over(self, request: SimRequest) -> None:
        reader = request.prefill.node if request.path is ReadPath.PE else request.decode.node
        reader.read_queue_tokens -= request.request.hit_tokens
        self.leaders[reader.name].changed()

    def _source_ready(self, request: SimRequest) -> None:
        request.ready_s = self._loop.now_s
        request.prefill.add(request)

    def _first_token(self, request: SimRequest) -> None:
        """Prefill is over; the last of the prompt's KV is on its way to the DE buffer."""
        self.leaders[request.prefill.node.name].on_finished(request.prefill.index, request.request)
        at_s, hand_over_s = max(self._loop.now_s, request.pushed_s), self._spec.delays.hand_over_s
        if self.cores and hand_over_s:
            self._loop.at(at_s, self._pushed, request)
        else:
            self._loop.at(at_s + hand_over_s, self._complete, request)

    def _pushed(self, request: SimRequest) -> None:
        self._after(self._spec.delays.hand_over_s, self._complete, request)

    def _complete(self, request: SimRequest) -> None:
        """The DE buffer holds the whole prompt; H2D, then its slots are free but for new blocks, which are written."""
        now = self._loop.now_s
        request.complete_s = now
        if request.path is ReadPath.PE and request.hit_blocks and self._spec.prefetch:
            request.prefill.node.release(request.hit_blocks)
        decode = request.decode
        if decode.h2d_links:
            nbytes = request.request.prompt_tokens * self._spec.layout.token_bytes
            self._loop.at(move(decode.h2d_links, nbytes, now), self._loaded, request)
        else:
            self._loaded(request)

    def _loaded(self, request: SimRequest) -> None:
        now, layout = self._loop.now_s, self._spec.layout
        request.loaded_s = now
        node = request.decode.node
        new_blocks = request.request.prompt_tokens // layout.block_tokens - request.hit_blocks
        node.free_blocks += request.prompt_blocks - new_blocks
        if new_blocks:
            request.written_s = node.write(new_blocks * layout.sealed_bytes)
            if request.written_s > now:
                self._loop.at(request.written_s, self._written, (node, new_blocks))
            else:
                node.free_blocks += new_blocks
        self.leaders[node.name].changed()
        request.decode.join(request)

    def _written(self, written: tuple[SimNode, int]) -> None:
        node, num_blocks = written
        node.free_blocks += num_blocks
        self.leaders[node.name].changed()

    def _decoded(self, request: SimRequest) -> None:
        """All tokens are there. Every block that filled meanwhile is written; the last token has no KV yet."""
        layout = self._spec.layout
        prompt = request.request.prompt_tokens
        blocks = (prompt + request.gen_tokens - 1) // layout.block_tokens - prompt // layout.block_tokens
        if blocks:
            request.written_s = request.decode.node.write(blocks * layout.sealed_bytes)
        self.leaders[request.decode.node.name].on_finished(request.decode.index, request.request)
        del self._requests[request.request.request_id]
        self._ended(request)
