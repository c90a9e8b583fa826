"""Simulated experiments of the reproduction: each is run once, however many figures show it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.config.costs import efficiency_of
from dualpath_ray.config.hardware import hardware_of
from dualpath_ray.config.load import load_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.models.load import load_model
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.observability.turn_columns import column
from dualpath_ray.planning.online import WARM_UP_SHARE, Online, online_means, poisson_arrivals
from dualpath_ray.simulator.build import cluster_spec, typical_turn
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.synthetic import PAPER_TRAJECTORIES, TABLE_2, generate_lengths
from dualpath_ray.workload.trajectory import TrajectoryLengths

# An agent is under way for some 1,200 s; means are over the second half, when there are old ones and young ones.
ONLINE_S = 4000.0
WINDOWS_S = (1.0, 10.0, 60.0)
_AS_THEY_ARE: Mapping[str, float] = {}
NO_READ_AHEAD = "basic, no reading ahead"  # a mode of the experiments: Basic reads a hit as part of its batch


@dataclass(frozen=True, slots=True)
class Offline:
    """What is kept of a run in which all agents start at once."""

    jct_s: float
    snic_max_over_mean: float  # over all nodes
    attention_max_over_mean: float  # over the engines of a group, in the first 5 % of the run
    num_turns: int
    snic_in_windows: tuple[float, ...]  # max / mean within windows of WINDOWS_S, the mean over them


class Lab:
    """Configurations by name from ``config_dir``; runs are kept by what they were asked for."""

    def __init__(self, config_dir: Path, echo: Callable[[str], None]) -> None:
        self._config_dir, self._echo = config_dir, echo
        self._offline: dict[Any, Offline] = {}
        self._online: dict[Any, dict[str, float]] = {}
        self._traces: dict[Any, list[TrajectoryLengths]] = {}

    def trace(self, name: str, append_scale: float = 1.0) -> list[TrajectoryLengths]:
        """500 trajectories of Table 2; ``append_scale`` multiplies what is appended after the first turn."""
        key = (name, append_scale)
        if key not in self._traces:
            made = generate_lengths(TABLE_2[name], num_trajectories=PAPER_TRAJECTORIES, seed=0)
            self._traces[key] = [_scaled(each, append_scale) for each in made]
        return self._traces[key]

    def offline(
        self,
        config: str,
        mode: str,
        num_agents: int,
        trace: str = "table2-64k",
        append_scale: float = 1.0,
        costs: Mapping[str, float] = _AS_THEY_ARE,
    ) -> Offline:
        """All agents at once. Args: costs: constants of ``config/costs.py`` in place of the hardware's own."""
        key = (config, mode, num_agents, trace, append_scale, *sorted(costs.items()))
        if key not in self._offline:
            spec = self.spec(config, mode, trace, append_scale, costs)
            simulation = Simulation(spec, self.trace(trace, append_scale))
            simulation.offline(num_agents)
            found = self._offline[key] = _kept(simulation, mode)
            scaled = f", append x{append_scale:g}" if append_scale != 1 else ""
            scaled += "".join(f", {name} {value:g}" for name, value in sorted(costs.items()))
            self._echo(f"  {config} {mode}, {num_agents} agents, {trace}{scaled}: JCT {found.jct_s:.0f} s")
        return self._offline[key]

    def online(self, config: str, mode: str, aps: float, cnic_share: float = 1.0) -> dict[str, float]:
        """Agents arrive at a rate; means of TTFT, TTST and its parts, and TPOT. Args: cnic_share: of the CNICs' rate."""
        key = (config, mode, aps, cnic_share)
        if key not in self._online:
            spec = self.spec(config, mode)
            if spec.rates.cnic:
                spec = replace(spec, rates=replace(spec.rates, cnic=spec.rates.cnic * cnic_share))
            simulation = Simulation(spec, self.trace("table2-64k"))
            online = Online(aps, ONLINE_S, 0)
            simulation.online(poisson_arrivals(online), ONLINE_S)
            record = simulation.record(mode)
            found = self._online[key] = {**online_means(record, online), **_ttst_parts(record, online)}
            slower = f", CNICs x{cnic_share:g}" if cnic_share != 1 else ""
            self._echo(
                f"  {config} {mode}{slower}, {aps:g} agents/s: TTFT {found['ttft_s']:.2f} s, TTST {found['ttst_s']:.3f} s, "
                f"TPOT {1000 * found['tpot_s']:.1f} ms"
            )
        return self._online[key]

    def speedup(self, config: str, num_agents: int, trace: str = "table2-64k", append_scale: float = 1.0) -> float:
        """JCT of Basic over JCT of Ours."""
        basic, ours = (self.offline(config, mode, num_agents, trace, append_scale) for mode in ("basic", "scheduled"))
        return basic.jct_s / ours.jct_s

    def spec(
        self,
        config: str,
        mode: str,
        trace: str = "table2-64k",
        append_scale: float = 1.0,
        costs: Mapping[str, float] = _AS_THEY_ARE,
    ) -> ClusterSpec:
        """A system of the paper in one of its modes."""
        path = self._config_dir / f"{config}.yaml"
        given = (
            mode_overrides("basic") | {"scheduler.prefetch": False} if mode == NO_READ_AHEAD else mode_overrides(mode)
        )
        loaded = load_cluster(path, given)
        efficiency = efficiency_of(hardware_of(loaded, str(path)).name, load_model(loaded.model).name)
        turn = typical_turn(self.trace(trace, append_scale))
        return cluster_spec(loaded, str(path), turn, efficiency.model_copy(update=dict(costs)))


def _kept(simulation: Simulation, mode: str) -> Offline:
    record = simulation.record(mode)
    read = list(record.snic_read_bytes.values())
    first = 0.05 * record.jct_s
    batches = [
        (slowest, mean)
        for group in simulation.system.prefill_groups
        for start_s, slowest, mean in group.attention_s
        if start_s <= first
    ]
    return Offline(
        record.jct_s,
        max(read) * len(read) / sum(read) if sum(read) else 1.0,
        sum(slowest for slowest, _ in batches) / sum(mean for _, mean in batches),
        len(column(record.turns, "turn")),
        tuple(_in_windows(record, window_s) for window_s in WINDOWS_S),
    )


def _in_windows(record: RunRecord, window_s: float) -> float:
    """Balance of the nodes' reads within windows, those left out in which nobody reads."""
    edges = np.arange(0.0, record.jct_s + window_s, window_s)
    read = np.zeros((len(record.read_spans), len(edges)))
    for node, spans in enumerate(record.read_spans.values()):
        if spans:
            asked, done, nbytes = np.array(spans).T
            # What has been read until a moment grows evenly within a span.
            times = np.column_stack([asked, done]).ravel()
            total = np.cumsum(np.column_stack([np.zeros(len(nbytes)), nbytes]).ravel())
            read[node] = np.interp(edges, times, total)
    moved = np.diff(read, axis=1)
    moved = moved[:, moved.sum(axis=0) > 0]
    return float((moved.max(axis=0) / moved.mean(axis=0)).mean()) if moved.size else 1.0


def _ttst_parts(record: RunRecord, online: Online) -> dict[str, float]:
    """Mean seconds of a turn from its first token until its prompt is in the DE buffer, in HBM, and a step is over."""
    turns = record.turns
    kept = (column(turns, "submit_s") >= WARM_UP_SHARE * online.duration_s) & (column(turns, "generated_tokens") > 1)
    first, complete, loaded = (column(turns, name)[kept] for name in ("prefill_end_s", "prompt_complete_s", "loaded_s"))
    second = first + column(turns, "ttst_s")[kept]
    return {
        "to_buffer_s": float((complete - first).mean()) if len(first) else 0.0,
        "to_hbm_s": float((loaded - complete).mean()) if len(first) else 0.0,
        "to_step_s": float((second - loaded).mean()) if len(first) else 0.0,
    }


def _scaled(trajectory: TrajectoryLengths, scale: float) -> TrajectoryLengths:
    if scale == 1.0:
        return trajectory
    first, *later = trajectory.turns
    turns = (first, *((max(1, round(append * scale)), gen, delay_s) for append, gen, delay_s in later))
    return TrajectoryLengths(trajectory.trajectory_id, turns)
