"""A live run as the simulator can take it: its configuration, its workload, and what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.observability.store import load_results
from dualpath_ray.workload.trajectory import TrajectoryLengths


@dataclass(frozen=True, slots=True)
class LiveRun:
    """One run of a results directory. ``turns``: the columns of ``requests.parquet``, each [turns]."""

    name: str
    config: ClusterConfig
    trajectories: list[TrajectoryLengths]
    turns: dict[str, np.ndarray]
    jct_s: float
    cores: int
    profile: dict[str, float]

    @property
    def threads(self) -> int:
        """Of an engine: its CPUs, else its share of the cores."""
        nodes = self.config.prefill_nodes + self.config.decode_nodes
        return max(1, int(self.config.engine.cpus or self.cores // (nodes * self.config.node.gpus)))

    @property
    def ttft_p50_s(self) -> float:
        return float(np.median(self.turns["ttft_s"]))

    @property
    def tpot_p50_s(self) -> float:
        later = self.turns["generated_tokens"] > 1
        return float(np.median(self.turns["tpot_s"][later])) if later.any() else 0.0


def load_live_runs(directory: Path) -> list[LiveRun]:
    """The runs of a directory that ``dualpath rollout --out`` wrote, in order.

    Raises: ConfigError naming the file that is missing, damaged, simulated, or holds no turn.
    """
    results = load_results(directory)
    if results.summary.get("simulated"):
        raise ConfigError(f"{directory}: these results are simulated; calibration needs those of `dualpath rollout`")
    table = results.requests.to_pydict()
    if not table["run"]:
        raise ConfigError(f"{directory / 'requests.parquet'}: there is no turn in it")
    if "prompt_tokens_per_s" not in (results.summary.get("profile") or {}):
        raise ConfigError(f"{directory / 'summary.json'}: profile.prompt_tokens_per_s is missing; beta follows from it")
    source = str(directory / "config.yaml")
    runs = []
    for index, summary in enumerate(results.summary["runs"]):
        rows = [i for i, run in enumerate(table["run"]) if run == index]
        columns = {name: np.array([values[i] for i in rows]) for name, values in table.items()}
        runs.append(
            LiveRun(
                name=f"{directory.name} {summary['mode']}",
                config=parse_cluster(results.config, source, mode_overrides(summary["mode"])),
                trajectories=_lengths(columns),
                turns=columns,
                jct_s=summary["jct_s"],
                cores=int(results.versions["cores"]),
                profile=results.summary["profile"],
            )
        )
    return runs


def join_repeats(runs: Sequence[LiveRun]) -> list[LiveRun]:
    """Runs of one name, configuration and workload are one run that was repeated: all its turns, and the mean JCT."""
    repeats: list[list[LiveRun]] = []
    for run in runs:
        same = next((each for each in repeats if _is_repeat(run, each[0])), None)
        if same is None:
            repeats.append([run])
        else:
            same.append(run)
    return [_joined(same) for same in repeats]


def _is_repeat(run: LiveRun, other: LiveRun) -> bool:
    return (run.name, run.config, run.trajectories) == (other.name, other.config, other.trajectories)


def _joined(runs: list[LiveRun]) -> LiveRun:
    first = runs[0]
    if len(runs) == 1:
        return first
    turns = {name: np.concatenate([run.turns[name] for run in runs]) for name in first.turns}
    # Ids of a trajectory are apart, so that its turns of one repeat do not follow those of another.
    ids = [[f"{i}/{name}" for name in run.turns["trajectory_id"]] for i, run in enumerate(runs)]
    turns["trajectory_id"] = np.concatenate(ids)
    return replace(first, turns=turns, jct_s=fmean(run.jct_s for run in runs))


def _lengths(columns: dict[str, np.ndarray]) -> list[TrajectoryLengths]:
    """Trajectories in the order of their first submit, which is that of the workload."""
    order = np.lexsort((columns["turn"], columns["trajectory_id"]))
    turns: dict[str, list[tuple[int, int, float]]] = {}
    first: dict[str, float] = {}
    for i in order:
        name = str(columns["trajectory_id"][i])
        first.setdefault(name, float(columns["submit_s"][i]))
        turns.setdefault(name, []).append((int(columns["append_tokens"][i]), int(columns["generated_tokens"][i]), 0.0))
    return [TrajectoryLengths(name, tuple(turns[name])) for name in sorted(turns, key=lambda name: first[name])]


def turn_gap_s(runs: Sequence[LiveRun]) -> float:
    """Median time from a turn's end to the trajectory's next submit, over all runs; 0 when there is no second turn."""
    gaps: list[float] = []
    for run in runs:
        turns: dict[str, Any] = run.turns
        order = np.lexsort((turns["turn"], turns["trajectory_id"]))
        same = turns["trajectory_id"][order][1:] == turns["trajectory_id"][order][:-1]
        between = turns["submit_s"][order][1:] - turns["finished_s"][order][:-1]
        gaps += between[same].tolist()
    return float(np.median(gaps)) if gaps else 0.0
