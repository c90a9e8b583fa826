"""``dualpath reproduce``: the paper's tables and figures beside ours."""

import shlex
import sys
from pathlib import Path

import click

_NAMES = ("table1", "table2", "table3", "fig7", "fig8", "fig9", "fig10", "fig12", "fig13", "fig14", "live")


@click.command(short_help="The paper's tables and figures beside ours.")
@click.argument("names", nargs=-1, type=click.Choice([*_NAMES, "all"]))
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    default=Path("cluster_configs"),
    show_default=True,
    help="Holds the configurations of the paper's systems.",
)
@click.option(
    "--live",
    type=click.Path(path_type=Path),
    default=Path("docs/benchmarks/pool.json"),
    show_default=True,
    help="Result of `dualpath bench pool`, for the rows that are measured live.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/reproduction"),
    show_default=True,
    help="Directory of the report; what it holds of other figures is kept.",
)
def reproduce(names: tuple[str, ...], config_dir: Path, live: Path, out: Path) -> None:
    """Simulate the paper's NAMES (all of them by default): one report with its numbers, ours and the deviation."""
    from dualpath_ray.planning.reproduce import run_reproduce

    chosen = _NAMES if not names or "all" in names else tuple(name for name in _NAMES if name in names)
    run_reproduce(chosen, config_dir, live, out, shlex.join(["dualpath", *sys.argv[1:]]), click.echo)
