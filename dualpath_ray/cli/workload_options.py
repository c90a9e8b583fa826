"""Flags that name a workload and an ablation: the same for a real and for a simulated run."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """``a,b`` as its parts."""
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


_OPTIONS = (
    click.option("--num-trajectories", type=click.IntRange(1), help="How many; a short trace is repeated."),
    click.option(
        "--max-turns",
        type=click.IntRange(1),
        help="Turns of a trajectory at most; code-reading takes exactly so many.  [12]",
    ),
    click.option(
        "--token-scale",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="Multiplies appended and generated lengths.",
    ),
    click.option("--max-gen", type=click.IntRange(1), help="Tokens generated in a turn, at most."),
    click.option("--gen-tokens", type=click.IntRange(1), help="Tokens generated in every turn, exactly."),
    click.option("--total-tokens", type=click.IntRange(1), help="Mean total of a code-reading trajectory."),
    click.option("--seed", type=int, help="Of workload and toy weights."),
    click.option(
        "--tool-delays/--no-tool-delays", default=False, show_default=True, help="Wait as the trace's tools did."
    ),
)
_ABLATIONS = (
    click.option("--read-path", help="prefill_only, round_robin, scheduled, or module:attr."),
    click.option("--layerwise/--no-layerwise", default=None, help="Move KV layer by layer while the layers compute."),
    click.option("--quota/--no-quota", default=None, help="Pack prefill batches by predicted attention time."),
    click.option(
        "--compare",
        callback=names,
        metavar="A,B,C",
        help="Run several systems one after the other: basic, prefill_only, round_robin, scheduled, oracle, module:attr.",
    ),
)


def workload_options(trace: str, ablations: bool = True) -> Callable[[Command], Command]:
    """Add them all. Args: trace: the default one; ablations: those that choose a system too."""

    def add(command: Command) -> Command:
        for option in reversed(_OPTIONS + _ABLATIONS if ablations else _OPTIONS):
            command = option(command)
        return click.option(
            "--trace",
            default=trace,
            show_default=True,
            help="code-reading, table2-32k, table2-48k, table2-64k, or the path of a recorded trace.",
        )(command)

    return add


def check_workload_flags(flags: dict[str, Any]) -> None:
    """Raises: ConfigError for flags that contradict each other."""
    from dualpath_ray.base.errors import ConfigError

    if flags.get("compare") and flags["read_path"]:
        raise ConfigError("--read-path and --compare contradict each other: --compare names every read path itself")
    if flags["gen_tokens"] and flags["max_gen"] and flags["gen_tokens"] > flags["max_gen"]:
        raise ConfigError(f"--gen-tokens {flags['gen_tokens']} is above --max-gen {flags['max_gen']}")
