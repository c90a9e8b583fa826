"""``dualpath logs`` and ``dualpath debug-bundle``."""

from contextlib import nullcontext, suppress
from pathlib import Path

import click

from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="Print the logs of a running system.")
@click.argument("actor", required=False)
@of_a_system
@click.option("--tail", type=int, default=100, show_default=True, help="Lines of each; -1: all.")
@click.option("--follow", is_flag=True, help="Go on with what one actor prints.")
def logs(actor: str | None, name: str | None, address: str | None, tail: int, follow: bool) -> None:
    """Print the logs of an ACTOR (such as prefill/p0/e0, or the beginning of a name), or of all."""
    from dualpath_ray.cluster.attach import the_system
    from dualpath_ray.cluster.logs import log_lines
    from dualpath_ray.ops.lifecycle.connection import joined

    with joined(address), suppress(KeyboardInterrupt) if follow else nullcontext():
        for who, line in log_lines(the_system(name), actor, tail, follow):
            click.echo(f"{who}: {line}")


@click.command("debug-bundle", short_help="Collect what helps to look into a problem.")
@of_a_system
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: NAME-debug-TIME.tar.gz]")
def debug_bundle(name: str | None, address: str | None, out: Path | None) -> None:
    """Write configuration, status, logs, decisions, metrics, versions and checks to one file, without secrets."""
    from dualpath_ray.ops.lifecycle.bundle import write_bundle
    from dualpath_ray.ops.lifecycle.connection import joined

    with joined(address):
        path, missing = write_bundle(name, out)
    for sentence in missing:
        click.echo(f"not in it: {sentence}")
    click.echo(f"wrote {path}; look it through before you give it away")
