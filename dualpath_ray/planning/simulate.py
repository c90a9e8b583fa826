"""``dualpath simulate``: a workload on one or several simulated systems, with the results that a rollout leaves."""

import json
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpath_ray import __version__
from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.costs import Efficiency, FittedCosts, load_costs
from dualpath_ray.config.load import load_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.models.load import load_model
from dualpath_ray.observability.run_record import Comparison, RunRecord
from dualpath_ray.planning.online import Online, online_summary, poisson_arrivals
from dualpath_ray.planning.options import SimulateOptions
from dualpath_ray.simulator.build import cluster_spec, typical_turn
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.load import load_lengths
from dualpath_ray.workload.trajectory import TrajectoryLengths

DEFAULT_OUT = Path("runs/simulated")
DEFAULT_AGENTS = 500
DEFAULT_DURATION_S = 3000.0
DEFAULT_GEN_TOKENS, DEFAULT_TOTAL_TOKENS = 4, 640  # of code-reading, as in a rollout

Echo = Callable[[str], None]
Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workload and the systems that it will run on."""

    config: ClusterConfig
    specs: list[tuple[str, ClusterSpec]]  # with the names that they are compared under
    trajectories: list[TrajectoryLengths]
    num_agents: int


def prepare(path: Path, options: SimulateOptions, encode: Encode | None = None) -> Prepared:
    """Check configuration, model, costs and workload.

    Args:   encode: text to token ids, for traces of text.
    Raises: ConfigError in one sentence.
    """
    given: dict[str, Any] = {
        "seed": options.seed,
        "scheduler.read_path": options.read_path,
        "scheduler.layerwise": options.layerwise,
        "scheduler.quota": options.quota,
    }
    config = load_cluster(path, given)
    costs = load_costs(options.costs) if options.costs else None
    trajectories = workload_lengths(config, str(path), options, encode)
    modes = options.compare or (config.scheduler.read_path,)
    specs = []
    for mode in modes:
        named = mode_overrides(mode) if options.compare else {}
        specs.append((mode, _spec(load_cluster(path, {**given, **named}), str(path), trajectories, costs)))
    return Prepared(config, specs, trajectories, options.num_trajectories or DEFAULT_AGENTS)


def workload_lengths(
    config: ClusterConfig, source: str, options: SimulateOptions, encode: Encode | None = None
) -> list[TrajectoryLengths]:
    """The trajectories that the options name. Raises: ConfigError when there are none, or they fit no model."""

    def no_tokenizer(text: str) -> list[int]:
        raise ConfigError(f"trace {options.trace}: it holds text, and {config.model} has no tokenizer here")

    try:
        limit = config.engine.max_context_tokens or load_model(config.model).max_context_tokens
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return load_lengths(
        options.trace,
        num_trajectories=options.num_trajectories or DEFAULT_AGENTS,
        max_turns=options.max_turns,
        token_scale=options.token_scale,
        max_gen=options.max_gen,
        gen_tokens=options.gen_tokens or (DEFAULT_GEN_TOKENS if options.trace == "code-reading" else None),
        max_context_tokens=limit,
        seed=config.seed,
        encode=encode or no_tokenizer,
        total_tokens=options.total_tokens or DEFAULT_TOTAL_TOKENS,
        tool_delays=options.tool_delays,
    )


def _spec(
    config: ClusterConfig,
    source: str,
    trajectories: Sequence[TrajectoryLengths],
    costs: Efficiency | FittedCosts | None,
) -> ClusterSpec:
    return cluster_spec(config, source, typical_turn(trajectories), costs)


def simulate(
    spec: ClusterSpec,
    trajectories: Sequence[TrajectoryLengths],
    num_agents: int,
    mode: str,
    online: Online | None = None,
) -> RunRecord:
    """One run: all agents at once, or as they arrive."""
    simulation = Simulation(spec, trajectories)
    if online is None:
        simulation.offline(num_agents)
    else:
        simulation.online(poisson_arrivals(online), online.duration_s)
    return simulation.record(mode)


def run_simulate(path: Path, options: SimulateOptions, encode: Encode | None, echo: Echo) -> int:
    """The whole of ``dualpath simulate``. Returns the exit code."""
    from dualpath_ray.observability.closing import print_closing
    from dualpath_ray.observability.headline import headline

    prepared = prepare(path, options, encode)
    online = None
    if options.aps is not None:
        online = Online(options.aps, options.duration_s or DEFAULT_DURATION_S, prepared.config.seed)
    comparison = Comparison(
        command=shlex.join(["dualpath", *sys.argv[1:]]),
        runs=[],
        config=json.loads(prepared.config.model_dump_json()),
        versions={"dualpath_ray": __version__, "python": platform.python_version(), "device": "simulated"},
        workload=_described(prepared),
    )
    out = Path(options.out or DEFAULT_OUT).expanduser().resolve()
    summary: dict[str, Any] = {}
    for mode, spec in prepared.specs:
        record = simulate(spec, prepared.trajectories, prepared.num_agents, mode, online)
        comparison.runs.append(record)
        echo(f"  {mode}: simulated {len(record.turns)} turns, {record.jct_s:.1f} s")
        summary = write(out, comparison, online)
    print_closing(summary)
    if online is not None:
        for row in summary["online"]:
            echo(row["said"])
    else:
        echo(headline(comparison, summary))
    echo(f"results (simulated): {out}    picture: {out / 'report.html'}")
    return 0


def write(out: Path, comparison: Comparison, online: Online | None) -> dict[str, Any]:
    """The files of a rollout. Returns the summary. Raises: ConfigError when the directory cannot be written."""
    from dualpath_ray.observability.report import render_report
    from dualpath_ray.observability.store import write_results
    from dualpath_ray.observability.summary import summarize

    summary = {**summarize(comparison), "simulated": True}
    if online is not None:
        summary["online"] = [online_summary(run, online) for run in comparison.runs]
    try:
        write_results(out, comparison, summary, render_report(comparison, summary))
    except OSError as error:
        raise ConfigError(
            f"--out: {out} cannot be written: {error.strerror or error}; name another directory, or free some space"
        ) from error
    return summary


def _described(prepared: Prepared) -> dict[str, Any]:
    turn = typical_turn(prepared.trajectories)
    num_turns = sum(len(t.turns) for t in prepared.trajectories)
    return {
        "trajectories": prepared.num_agents,
        "turns": num_turns / len(prepared.trajectories),
        "mean_context": turn.cached_tokens,
        "append": turn.new_tokens,
    }
