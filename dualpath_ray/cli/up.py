"""``dualpath up`` and ``dualpath down``."""

from pathlib import Path

import click

from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="Start a system that keeps running.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the system.  [default: name in CONFIG]")
@click.option("--address", help="Ray cluster to start it on.  [default: RAY_ADDRESS, or that of this machine]")
@click.option("--keep-store", is_flag=True, help="Leave the stored blocks when it is taken down.")
@click.option(
    "--ui-port",
    type=click.IntRange(0, 65_535),
    help="Let the system serve its live page there; 0: a free port.  [default: ui.port in CONFIG]",
)
def up(config: Path, name: str | None, address: str | None, keep_store: bool, ui_port: int | None) -> None:
    """Start the system of a CONFIG file and leave it running, on a Ray cluster or on this machine alone.

    Where no Ray runs, one is started, which ends with `dualpath down`. A system that is up is left as it is: with the same
    configuration that is fine, with another one the differences are listed.
    """
    import os

    from dualpath_ray.config.cluster import ClusterConfig
    from dualpath_ray.ops.lifecycle.up import up as start
    from dualpath_ray.ui.serve import start_configured

    def serve_page(system: str, its: ClusterConfig) -> None:
        start_configured(system, its.ui, ui_port, os.environ.get("DUALPATH_UI_TOKEN") or None, click.echo)

    start(config, name, address, keep_store, click.echo, serve_page)


@click.command(short_help="Take a running system down.")
@of_a_system
@click.option(
    "--within",
    "within_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds for what is under way.",
)
def down(name: str | None, address: str | None, within_s: float) -> None:
    """Let a system finish what is under way, then remove exactly what `dualpath up` created."""
    from dualpath_ray.ops.lifecycle.up import down as take_down

    take_down(name, address, within_s, click.echo)
