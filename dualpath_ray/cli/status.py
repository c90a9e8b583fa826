"""``dualpath status``."""

import json
from contextlib import nullcontext, suppress

import click

from dualpath_ray.cli.errors import FAILED, OK
from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="Show what a running system does.")
@of_a_system
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Print it again and again, until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds of a mean.",
)
def status(name: str | None, address: str | None, as_json: bool, watch: bool, interval_s: float) -> int:
    """Show nodes, engines, NICs with their utilisation and queue, buffers and storage of a running system.

    The exit code is 1 when an actor is gone or does not answer.
    """
    from dualpath_ray.ops.lifecycle.connection import joined
    from dualpath_ray.ops.lifecycle.status import status_text
    from dualpath_ray.ops.lifecycle.watch import statuses

    code = OK
    with joined(address), suppress(KeyboardInterrupt) if watch else nullcontext():
        for told in statuses(name, interval_s, watch):
            if watch and not as_json:
                click.clear()
            click.echo(json.dumps(told, indent=None if watch else 2) if as_json else status_text(told))
            code = FAILED if told["problems"] else OK
    return code
