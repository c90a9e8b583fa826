"""``dualpath rollout``: replay agent trajectories on one or several systems."""

from pathlib import Path
from typing import Any

import click


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


@click.command(short_help="Replay agent trajectories on a system.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--trace",
    default="code-reading",
    show_default=True,
    help="code-reading, table2-32k, table2-48k, table2-64k, or the path of a recorded trace.",
)
@click.option("--num-trajectories", type=click.IntRange(1), help="How many; a short trace is repeated.")
@click.option(
    "--max-turns",
    type=click.IntRange(1),
    help="Turns of a trajectory at most; code-reading takes exactly so many.  [12]",
)
@click.option(
    "--token-scale",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiplies appended and generated lengths.",
)
@click.option("--max-gen", type=click.IntRange(1), help="Tokens generated in a turn, at most.")
@click.option("--gen-tokens", type=click.IntRange(1), help="Tokens generated in every turn, exactly.")
@click.option("--total-tokens", type=click.IntRange(1), help="Mean total of a code-reading trajectory.")
@click.option("--seed", type=int, help="Of workload and toy weights.")
@click.option("--tool-delays/--no-tool-delays", default=False, show_default=True, help="Wait as the trace's tools did.")
@click.option("--read-path", help="prefill_only, round_robin, scheduled, or module:attr.")
@click.option("--layerwise/--no-layerwise", default=None, help="Move KV layer by layer while the layers compute.")
@click.option("--quota/--no-quota", default=None, help="Pack prefill batches by predicted attention time.")
@click.option(
    "--compare",
    callback=_names,
    metavar="A,B,C",
    help="Run several systems one after the other: basic, prefill_only, round_robin, scheduled, oracle, module:attr.",
)
@click.option("--address", help="Use this Ray cluster instead of a private local one.")
@click.option("--out", help="Directory of the results.  [default: runs/latest]")
@click.option("--keep-store", is_flag=True, help="Leave the stored blocks on disk.")
@click.option(
    "--verify-tokens/--no-verify-tokens",
    default=True,
    show_default=True,
    help="Check every generated token against plain transformers.",
)
def rollout(config: Path, **flags: Any) -> int:
    """Replay agent trajectories on the system of a CONFIG file."""
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.ops.options import RolloutOptions

    options = RolloutOptions(**flags)
    if options.compare and options.read_path:
        raise ConfigError("--read-path and --compare contradict each other: --compare names every read path itself")
    if options.gen_tokens and options.max_gen and options.gen_tokens > options.max_gen:
        raise ConfigError(f"--gen-tokens {options.gen_tokens} is above --max-gen {options.max_gen}")
    from dualpath_ray.ops.rollout import run_rollout

    return run_rollout(config, options, click.echo)
