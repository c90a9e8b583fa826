"""``dualpath profile``: alpha, beta and the quota's predictor of the engine at hand."""

from pathlib import Path

import click


@click.command(short_help="Measure the engine of a configuration.")
@click.argument("config", type=click.Path(path_type=Path))
def profile(config: Path) -> None:
    """Measure the engine of a CONFIG file, and print what to put there in place of the short profile at start."""
    from dualpath_ray.ops.profile import profile_config

    profile_config(config, click.echo, lambda line: click.echo(line, err=True))
