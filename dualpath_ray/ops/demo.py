"""``make run``: the main job on a laptop, in numbered stages."""

from collections.abc import Callable
from pathlib import Path

from dualpath_ray.base.units import bytes_per_s
from dualpath_ray.engine.pull import pull
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.rollout import Prepared, describe_workload, execute, prepare, results_place

CONFIG = Path(__file__).parents[2] / "cluster_configs" / "laptop_1p1d.yaml"
MODES = ("prefill_only", "scheduled", "oracle")
_START_MINUTES = 0.3  # of one system: Ray, model, profile
_COMPUTE_TOKENS_PER_S = 160  # new tokens a prefill engine takes on one core of a laptop


def run_demo(echo: Callable[[str], None] = print) -> int:
    """A real model, single path against dual path, same tokens. Returns the exit code."""
    options = RolloutOptions(compare=MODES)
    place = results_place(options)
    echo("1/4  model: smollm2-135m (half a minute where it has to be fetched)")
    pull("smollm2-135m", lambda line: echo(f"     {line}"))
    echo("2/4  workload: agents that read the Python standard library on this machine (seconds)")
    prepared = prepare(CONFIG, options)
    echo(f"     {describe_workload(prepared).removeprefix('workload: ')}")
    minutes = expected_minutes(prepared)
    total = sum(minutes.values())
    each = ", ".join(f"{mode} {m:.1f}" for mode, m in minutes.items())
    echo(f"3/4  running it {len(MODES)} times, each on an empty store: about {total:.0f} minutes ({each})")
    return execute(
        prepared, options, place, echo, "4/4  checking every token against plain transformers: about 1 minute"
    )


def expected_minutes(prepared: Prepared) -> dict[str, float]:
    """How long each run will take: its storage reads over the NICs that may read, or its compute, whichever is more."""
    plan = prepared.runs[0].plan
    tokens = prepared.config.block_tokens
    hit_blocks = new_tokens = 0
    for trajectory in prepared.trajectories:
        context = 0
        for turn in trajectory.turns:
            hit_blocks += max(0, context - 1) // tokens
            context += turn.append_tokens + turn.gen_tokens
        new_tokens += context
    snic = bytes_per_s(prepared.config.node.snic_bps or 10**12)
    read_s = hit_blocks * plan.layout.sealed_bytes / snic
    compute_s = new_tokens / _COMPUTE_TOKENS_PER_S / prepared.config.prefill_nodes
    readers = {"prefill_only": prepared.config.prefill_nodes, "oracle": 10**9}
    every = len(prepared.config.node_names)
    return {
        run.mode: _START_MINUTES + max(compute_s, read_s / readers.get(run.mode, every)) / 60 for run in prepared.runs
    }
