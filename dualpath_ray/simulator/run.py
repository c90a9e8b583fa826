"""One simulated run: trajectories through a cluster, and what came of it as a live run's record."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from dualpath_ray.base.types import ReadPath
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.observability.turn_columns import TurnColumns, TurnNames
from dualpath_ray.simulator.agents import Agents
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.simulator.system import SimSystem
from dualpath_ray.traffic.nic import Direction
from dualpath_ray.traffic.nic_queue import NicQueue
from dualpath_ray.workload.trajectory import TrajectoryLengths


class Simulation:
    """A cluster, its agents and its clock. ``offline`` or ``online`` says when agents come; ``record`` what happened."""

    def __init__(self, spec: ClusterSpec, trajectories: Sequence[TrajectoryLengths]) -> None:
        self.spec = spec
        self.loop = EventLoop()
        self.agents = Agents(self.loop, trajectories, spec.layout.block_tokens, spec.delays.turn_s)
        self.system = SimSystem(self.loop, spec, self._on_end)
        self.agents.attach(self.system)
        self._number = {name: i for i, name in enumerate([*self.system.prefill, *self.system.decode])}
        layout = spec.layout
        self.turns = TurnColumns(
            TurnNames(
                self.agents.name,
                list(self._number),
                layout.block_tokens,
                layout.sealed_bytes,
                layout.full_block_bytes,
                layout.token_bytes,
                not spec.oracle,
            )
        )

    def offline(self, num_agents: int) -> None:
        """All agents start at once and run to their end (section 7.3)."""
        self.loop.at(0.0, lambda _: self.agents.arrive(num_agents))
        with _no_garbage():
            self.loop.run()
        if self.system.num_under_way:  # what was refused at the start can never be had; this would be a mistake of ours
            raise RuntimeError(f"{self.system.num_under_way} simulated requests wait for what never comes")

    def online(self, arrivals_s: Sequence[float], until_s: float) -> None:
        """Agents come at given times; the run ends at ``until_s``, whoever is still under way."""
        for time_s in arrivals_s:
            self.loop.at(time_s, lambda _: self.agents.arrive(1))
        with _no_garbage():
            self.loop.run(until_s)

    def steady(self, arrivals_s: Sequence[float], slice_s: float) -> Iterator[float]:
        """Agents come at given times, and whoever ends is replaced, so that from the last arrival on they are as many.

        Yields: the time after each slice of ``slice_s`` seconds, for ever: whoever has seen enough goes no further.
        """
        self.agents.replace_ended = True
        for time_s in arrivals_s:
            self.loop.at(time_s, lambda _: self.agents.arrive(1))
        for number in count(1):
            with _no_garbage():
                self.loop.run(number * slice_s)
            yield number * slice_s

    def record(self, mode: str) -> RunRecord:
        """The run as a live one is recorded."""
        spec, nodes, now = self.spec, self.system.nodes, self.loop.now_s
        return RunRecord(
            mode=mode,
            read_path=spec.read_path,
            layerwise=spec.layerwise,
            quota=spec.quota_s is not None,
            oracle=spec.oracle,
            prefill_nodes=spec.prefill_nodes,
            decode_nodes=spec.decode_nodes,
            started_s=0.0,
            ended_s=float(self.turns.column("finished_s").max()) if len(self.turns) else now,
            turns=self.turns,
            nic_rates_bytes_per_s={
                queue.name: queue.rate_bytes_per_s
                for node in nodes.values()
                for nic in (node.snic, *node.cnics)
                for queue in nic.queues.values()
            },
            snic_read_bytes={name: _bytes(node.snic[Direction.IN]) for name, node in nodes.items()},
            snic_write_bytes={name: _bytes(node.snic[Direction.OUT]) for name, node in nodes.items()},
            cnic_bytes={
                name: {way.value: sum(_bytes(nic[way]) for nic in node.cnics) for way in Direction}
                for name, node in nodes.items()
            },
            read_spans={
                name: [(asked, done, int(nbytes)) for asked, done, nbytes in node.read_spans]
                for name, node in nodes.items()
            },
            engines={
                engine.engine_id: {"stall_s": engine.group.stall_s, "compute_s": engine.group.batch_s}
                for engine in self.system.prefill.values()
            },
        )

    def _on_end(self, request: SimRequest) -> None:
        start = request.read_start_s
        self.turns.append(
            (
                request.path is ReadPath.DE,
                request.submit_s,
                request.assigned_s,
                request.ready_s,
                request.prefill_start_s,
                request.first_token_s,
                request.complete_s,
                request.loaded_s,
                self.loop.now_s,
                start - request.assigned_s,
                request.ready_s - start,
                request.second_token_s,
                request.agent,
                request.turn,
                request.request.prompt_tokens,
                request.append_tokens,
                request.request.hit_tokens,
                request.gen_tokens,
                request.num_chunks,
                self._number[request.prefill.engine_id],
                self._number[request.decode.engine_id],
                request.cnic_in_bytes,
                request.cnic_out_bytes,
            ),
            request.reason,
        )
        self.agents.on_end(request)


def _bytes(queue: NicQueue) -> int:
    return sum(queue.counters.bytes_by_class.values())


@contextmanager
def _no_garbage() -> Iterator[None]:
    """The simulator makes no reference cycles, and looking for them among millions of objects takes most of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
