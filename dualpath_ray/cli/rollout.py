"""``dualpath rollout``: replay agent trajectories on one or several systems."""

from pathlib import Path
from typing import Any

import click

from dualpath_ray.cli.workload_options import check_workload_flags, workload_options


@click.command(short_help="Replay agent trajectories on a system.")
@click.argument("config", type=click.Path(path_type=Path))
@workload_options("code-reading")
@click.option("--address", help="Use this Ray cluster instead of a private local one.")
@click.option("--system", help="Use this running system (`dualpath up`) instead of one of its own.")
@click.option("--out", help="Place of the results: a directory, or s3://bucket/prefix.  [default: runs/latest]")
@click.option("--resume", is_flag=True, help="Go on where a run that was interrupted had come to; without one, begin.")
@click.option("--keep-store", is_flag=True, help="Leave the stored blocks on disk.")
@click.option(
    "--verify-tokens/--no-verify-tokens",
    default=True,
    show_default=True,
    help="Check every generated token against plain transformers.",
)
@click.option(
    "--ui-port",
    type=click.IntRange(0, 65_535),
    help="Serve the live page of the run's own system there; 0: a free port.  [default: ui.port in CONFIG]",
)
def rollout(config: Path, ui_port: int | None, **flags: Any) -> int:
    """Replay agent trajectories on the system of a CONFIG file."""
    import os
    from contextlib import AbstractContextManager

    from dualpath_ray.config.cluster import ClusterConfig
    from dualpath_ray.ops.options import Echo, RolloutOptions
    from dualpath_ray.ops.rollout import run_rollout
    from dualpath_ray.ui.serve import page_of_run

    def page(system: str, its: ClusterConfig, echo: Echo) -> AbstractContextManager[None]:
        return page_of_run(system, its.ui, ui_port, os.environ.get("DUALPATH_UI_TOKEN") or None, echo)

    check_workload_flags(flags)
    return run_rollout(config, RolloutOptions(**flags, page=page), click.echo)
