"""Runs a workload on one or several systems, checks their tokens, and writes what came of it."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import align_up
from dualpath_ray.cluster.api import connect, start
from dualpath_ray.cluster.attach import attach
from dualpath_ray.cluster.page import page_address
from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.cluster.plan import SystemPlan, check_machine, make_plan
from dualpath_ray.cluster.rollout import Earlier, Progress, Rollout
from dualpath_ray.cluster.system import System
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.config.load import load_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.engine.timed import is_timed
from dualpath_ray.observability.run_record import Comparison, RunRecord, TokenCheck
from dualpath_ray.ops.checkpoint import Checkpoint, RunCheckpoint, workload_of
from dualpath_ray.ops.lifecycle.connection import cluster_address
from dualpath_ray.ops.lifecycle.differences import LIVE, differences
from dualpath_ray.ops.memory import MemoryMeter
from dualpath_ray.ops.options import Echo, RolloutOptions
from dualpath_ray.ops.results_dir import writing_to
from dualpath_ray.ops.results_place import ResultsPlace
from dualpath_ray.ops.versions import versions
from dualpath_ray.ops.workloads import make_workload
from dualpath_ray.storage.root import child
from dualpath_ray.workload.load import statistics
from dualpath_ray.workload.trajectory import Trajectory

Keep = Callable[[list[RunRecord]], object]
DEFAULT_OUT = "runs/latest"
CHECKING = "checking the tokens of every run against plain transformers"
OK, WRONG_TOKENS = 0, 3  # exit codes


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """One compared system, ready to start."""

    mode: str
    plan: SystemPlan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A workload and the systems it will run on: everything that can be known before a start."""

    runs: list[PreparedRun]
    trajectories: list[Trajectory]
    config: ClusterConfig
    max_context_tokens: int  # at which trajectories were cut

    @property
    def max_cpus(self) -> float:
        return max(r.plan.num_engines * r.plan.cpus_per_engine for r in self.runs)


def prepare(config_path: Path, options: RolloutOptions, overrides: dict[str, Any] | None = None) -> Prepared:
    """Check configuration, model and workload. Raises: ConfigError, before anything has started."""
    given = {
        **(overrides or {}),
        "seed": options.seed,
        "scheduler.read_path": options.read_path,
        "scheduler.layerwise": options.layerwise,
        "scheduler.quota": options.quota,
    }
    source = str(config_path)
    config = load_cluster(config_path, given)
    if is_timed(config.model):
        raise ConfigError(
            f"{source}: model: {config.model} computes no tokens to roll out; it serves `dualpath bench isolation`"
        )
    modes = options.compare or (config.scheduler.read_path,)
    first = make_plan(config, source)
    trajectories = make_workload(options, first)
    longest = align_up(max(t.max_context_tokens for t in trajectories), config.block_tokens)
    longest = min(longest, first.max_context_tokens)
    runs = []
    for mode in modes:
        named = dict(mode_overrides(mode)) if options.compare else {}
        if options.compare:  # a store for each
            own = mode.replace(":", "-")
            named["storage.mounts"] = {n: child(p, own) for n, p in config.storage.mounts.items()} or None
            named["storage.path"] = child(config.storage.path, own) if config.storage.path else None
        plan = make_plan(load_cluster(config_path, {**given, **named}), source, longest)
        if options.address is None and options.system is None:
            check_machine(plan, _oracle_store_bytes(plan, trajectories))
        _check_fits(plan, trajectories)
        runs.append(PreparedRun(mode, plan))
    return Prepared(runs, trajectories, config, first.max_context_tokens)


def _oracle_store_bytes(plan: SystemPlan, trajectories: list[Trajectory]) -> int:
    """What the oracle's store will hold: it keeps all KV in shared memory."""
    if not plan.config.scheduler.oracle:
        return 0
    blocks = sum(t.total_tokens // plan.config.block_tokens for t in trajectories)
    return min(blocks * plan.layout.sealed_bytes, plan.config.storage.capacity_bytes)


def _check_fits(plan: SystemPlan, trajectories: list[Trajectory]) -> None:
    """Raises: ConfigError for a workload whose longest context could never run here."""
    source = plan.source
    longest = max(trajectories, key=lambda t: t.total_tokens)
    blocks = plan.layout.num_blocks(longest.total_tokens)
    for key, has in (("node.pe_buffer_bytes", plan.pe_slots), ("node.de_buffer_bytes", plan.de_slots)):
        if blocks > has:
            raise ConfigError(
                f"{source}: {key}: the buffer holds {has} blocks, but trajectory {longest.trajectory_id} needs {blocks} "
                f"for its {longest.total_tokens} tokens; make it larger or use --token-scale"
            )
    if longest.total_tokens > plan.hbm_tokens:
        raise ConfigError(
            f"{source}: engine.hbm_kv_bytes: a decode engine holds {plan.hbm_tokens} tokens, but trajectory "
            f"{longest.trajectory_id} reaches {longest.total_tokens}; make it larger or use --token-scale"
        )


def run_rollout(config_path: Path, options: RolloutOptions, echo: Echo = print) -> int:
    """The whole of ``dualpath rollout``. Returns the exit code: 0, or 3 when the token check failed."""
    if options.system is not None and options.compare:
        raise ConfigError("--system and --compare contradict each other: a running system is as it is")
    with closing(results_place(options)) as place:
        prepared = prepare(config_path, options)
        echo(describe_workload(prepared))
        return execute(prepared, options, place, echo)


def results_place(options: RolloutOptions) -> ResultsPlace:
    """Where results go, ready to be written. Raises: ConfigError naming ``--out``."""
    place = ResultsPlace(options.out or DEFAULT_OUT)
    place.make()
    return place


def describe_workload(prepared: Prepared) -> str:
    """One line; trajectories that end early because the context would pass the limit are told."""
    measured = statistics(prepared.trajectories, prepared.config.block_tokens)
    num, early = measured["trajectories"], measured["cut_trajectories"]
    said = (
        f"workload: {num} trajectories, {measured['turns']:.1f} turns and {measured['total']:.0f} tokens each, "
        f"{measured['append']:.0f} appended and {measured['gen']:.0f} generated a turn"
    )
    limit = prepared.max_context_tokens
    return said + (f"; {early} of them end early, at the context limit of {limit} tokens" if early else "")


def execute(
    prepared: Prepared, options: RolloutOptions, place: ResultsPlace, echo: Echo, checking: str = CHECKING
) -> int:
    """Run, check, write, and print the closing table. Args: checking: what to say before the token check."""
    from dualpath_ray.observability.closing import print_closing
    from dualpath_ray.observability.headline import alarms, headline

    def publish(comparison: Comparison) -> dict[str, Any]:
        summary = write_all(place.folder, comparison)
        place.publish()
        return summary

    config = json.loads(prepared.config.model_dump_json())
    workload = workload_of(prepared.trajectories, config, [run.mode for run in prepared.runs])
    checkpoint = Checkpoint(place, workload, options.resume)
    comparison = compared(
        prepared,
        options,
        echo,
        checking,
        lambda runs: publish(_comparison(prepared, runs)),
        checkpoint=checkpoint,
    )
    summary = publish(comparison)
    checkpoint.done()
    echo("")
    print_closing(summary)
    echo(headline(comparison, summary))
    for alarm in alarms(summary):
        echo(alarm)
    echo(f"results: {place.shown}    picture: {place.where('report.html')}")
    return OK if all(c.identical for c in comparison.checks) else WRONG_TOKENS


def compared(
    prepared: Prepared,
    options: RolloutOptions,
    echo: Echo,
    checking: str = CHECKING,
    keep: Keep = lambda runs: None,
    live: TextIO | None = None,
    checkpoint: Checkpoint | None = None,
) -> Comparison:
    """Every run with the check of its tokens.

    Args: checking: what to say before the check; keep: gets the runs so far after each of them, so that a later failure
        loses none; live: as ``run_one``; checkpoint: where to go on, and to keep what is done.
    """
    records = run_all(prepared, options, echo, keep, live, checkpoint)
    comparison = _comparison(prepared, records)
    if options.verify_tokens:
        echo(checking)
        comparison.checks = check_tokens(prepared, records, echo)
    return comparison


def _comparison(prepared: Prepared, records: list[RunRecord]) -> Comparison:
    return Comparison(
        command=shlex.join(["dualpath", *sys.argv[1:]]),
        runs=list(records),
        config=json.loads(prepared.config.model_dump_json()),
        versions=versions(),
        workload=dict(statistics(prepared.trajectories, prepared.config.block_tokens)),
    )


def write_all(out: Path, comparison: Comparison) -> dict[str, Any]:
    """Everything that ``dualpath rollout`` leaves in its directory. Returns the summary.

    Raises: ConfigError naming ``--out`` when the disk is full or the directory is gone.
    """
    from dualpath_ray.observability.figure import compare_svg
    from dualpath_ray.observability.report import render_report
    from dualpath_ray.observability.store import write_results
    from dualpath_ray.observability.summary import summarize

    summary = summarize(comparison)
    with writing_to(out):
        write_results(out, comparison, summary, render_report(comparison, summary))
        (out / "figure.svg").write_text(compare_svg(comparison, summary))
    return summary


def run_all(
    prepared: Prepared,
    options: RolloutOptions,
    echo: Echo,
    keep: Keep = lambda runs: None,
    live: TextIO | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[RunRecord]:
    """Every run on an empty store with warmed engines, one after the other on one Ray. Args: as ``compared``."""
    records: list[RunRecord] = []
    with _ray(_address(options), prepared.max_cpus, prepared.config.engine.device == "cuda"):
        for run in prepared.runs:
            kept = checkpoint.run(run.mode) if checkpoint is not None else None
            records.append(run_one(run, prepared.trajectories, options, echo, live, kept))
            keep(records)
    return records


def _address(options: RolloutOptions) -> str | None:
    """None: a private Ray."""
    return options.address if options.system is None else cluster_address(options.address) or "auto"


@contextmanager
def _ray(address: str | None, cpus: float, uses_gpus: bool) -> Iterator[None]:
    session = RaySession()
    try:
        session.open(address, cpus, uses_gpus)
        yield
    finally:
        session.close()


def run_one(
    run: PreparedRun,
    trajectories: list[Trajectory],
    options: RolloutOptions,
    echo: Echo,
    live: TextIO | None = None,
    checkpoint: RunCheckpoint | None = None,
) -> RunRecord:
    """One run: start, replay, stop. Nothing of it is left behind but its store, if that is to be kept.

    Args: live: where the display of its progress goes, standard output when None; checkpoint: as ``compared``.
    """
    from dualpath_ray.observability.live import LiveDisplay

    called = options.system or run.mode  # a running system has the read path that it has

    def said(line: str) -> None:
        echo(f"  {called}: {line}")

    if checkpoint is not None and checkpoint.record is not None:
        said("was complete before")
        return checkpoint.record
    earlier = checkpoint.earlier if checkpoint is not None else Earlier()
    if earlier.turns:
        said(f"goes on after {len(earlier.turns)} turns that were finished before")
    with MemoryMeter() as memory, _system(run.plan, options, said, not earlier.turns) as system:
        client = connect(system)
        try:
            with LiveDisplay(live) as display:

                def show(p: Progress) -> None:
                    display.update(
                        called,
                        p.trajectories_done,
                        p.trajectories_total,
                        p.turns_done,
                        p.turns_total,
                        p.generated_tokens,
                        p.generated_tokens / p.elapsed_s if p.elapsed_s else 0.0,
                        p.elapsed_s,
                        p.nics,
                    )

                finished = checkpoint.add if checkpoint is not None else lambda turns: None
                mode = run.mode if options.system is None else None
                record = Rollout(system, client, trajectories, show, finished, earlier).run(mode)
        finally:
            try:
                if checkpoint is not None:
                    checkpoint.flush()
            finally:
                client.close()
    if options.address is None and options.system is None:
        record.memory_peak_bytes = memory.peak_bytes or None
    if checkpoint is not None:
        checkpoint.complete(record)
    said(f"job completion time {record.jct_s:.1f} s")
    return record


@contextmanager
def _system(plan: SystemPlan, options: RolloutOptions, said: Echo, afresh: bool) -> Iterator[System]:
    """A system of the run's own, or a running one, which stays. Args: afresh: begin on an empty store.

    Raises: ConfigError when the running one has another configuration.
    """
    if options.system is None:
        with (
            start(
                plan,
                address=options.address,
                keep_store=options.keep_store,
                empty_store=bool(options.compare) and afresh,
                progress=said,
            ) as system,
            options.page(system.name, plan.config, said),
        ):
            yield system
        return
    system = attach(options.system)
    found = differences(system.plan.config, plan.config, but=LIVE)
    if found:
        raise ConfigError(f"{plan.source}: {options.system} runs with another configuration: {'; '.join(found)}")
    if (page := page_address(options.system)) is not None:
        said(f"live page: {page}")
    yield system


def check_tokens(prepared: Prepared, records: list[RunRecord], echo: Echo) -> list[TokenCheck]:
    """Every generated token of every run against the plain model; one trajectory against ``generate`` itself."""
    import torch

    from dualpath_ray.engine.device import num_cuda_devices
    from dualpath_ray.engine.verify import MOST_NEAR_TIES, PlainModel, check_all

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    plan, engine = prepared.runs[0].plan, prepared.config.engine
    device = engine.device if num_cuda_devices() else "cpu"  # of a driver outside the cluster
    plain = PlainModel(plan.description, prepared.config.seed, engine.dtype, device, engine.stored_dtype)
    known: dict[tuple[int, ...], tuple[int, int, int]] = {}
    rounding: dict[tuple[int, ...], int] = {}  # tokens that it changed, by context
    generated: dict[tuple[int, ...], list[int]] = {}
    checks = []
    for record in records:
        compared, ties, wrong = check_all(plain, record.contexts, record.generated_spans, known)
        name, context = next(iter(record.contexts.items()))
        spans = record.generated_spans[name]
        by_itself = plain.generate_again(context, spans, generated)
        changed = None
        if plain.rounds:
            for trajectory, context in record.contexts.items():
                if tuple(context) not in rounding:
                    rounding[tuple(context)] = plain.changed_by_rounding(context, record.generated_spans[trajectory])
            changed = sum(rounding[tuple(context)] for context in record.contexts.values())
        checks.append(TokenCheck(compared, ties, wrong + by_itself, MOST_NEAR_TIES[engine.dtype], changed))
        rounded = f"; {changed} would be others with KV in {engine.dtype}" if plain.rounds else ""
        echo(
            f"  {record.mode}: {compared} tokens, {ties} near ties, {wrong} wrong; {name} by generate(): {by_itself} wrong"
            f"{rounded}"
        )
    return checks
