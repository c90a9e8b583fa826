"""``dualpath simulate``: the same scheduler and NIC queues on a cluster that need not exist."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dualpath_ray.cli.workload_options import check_workload_flags, workload_options


@click.command(short_help="Run a workload on a simulated cluster of any size.")
@click.argument("config", type=click.Path(path_type=Path))
@workload_options("table2-64k")
@click.option("--aps", type=float, help="Agents arrive at this rate a second, at random; without it all start at once.")
@click.option("--duration", "duration_s", type=float, help="Seconds that agents arrive for.  [3000]")
@click.option(
    "--costs", type=click.Path(path_type=Path), help="What `dualpath calibrate` wrote, instead of a data sheet."
)
@click.option("--out", help="Directory of the results.  [default: runs/simulated]")
def simulate(config: Path, **flags: Any) -> int:
    """Run a workload on the system of a CONFIG file, simulated: no GPU, no Ray, one core."""
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.planning.options import SimulateOptions
    from dualpath_ray.planning.simulate import run_simulate

    check_workload_flags(flags)
    if flags["duration_s"] is not None and flags["aps"] is None:
        raise ConfigError("--duration says how long agents arrive; give their rate with --aps")
    return run_simulate(config, SimulateOptions(**flags), encoder_of(config), click.echo)


def encoder_of(config: Path) -> Callable[[str], list[int]]:
    """The tokenizer of a configuration's model, read when the first text comes: most traces hold lengths only."""
    known: list[Callable[[str], list[int]]] = []

    def encode(text: str) -> list[int]:
        if not known:
            from dualpath_ray.config.load import load_cluster
            from dualpath_ray.engine.describe import describe
            from dualpath_ray.engine.pull import local_model
            from dualpath_ray.ops.workloads import encoder

            loaded = load_cluster(config)
            known.append(encoder(describe(local_model(loaded.model), loaded.engine.dtype, loaded.seed)))
        return known[0](text)

    return encode
