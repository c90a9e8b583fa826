"""``dualpath doctor``: what this machine has, and what stands in the way."""

import json
from pathlib import Path

import click

from dualpath_ray.cli.errors import FAILED, OK


@click.command(short_help="Check this machine, and a configuration on it.")
@click.argument("config", type=click.Path(path_type=Path), required=False)
@click.option("--address", help="Check that this Ray cluster answers.  [default: RAY_ADDRESS]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(config: Path | None, address: str | None, as_json: bool) -> int:
    """Show GPUs, NICs and which roles they would get; check memory, store, transports, torch, Ray, its nodes and labels.

    With CONFIG, what that needs. A line a check: ok, warning (it runs, but not as well as it could) or error, with what to
    do. The exit code is 0 when the configuration can run here, 1 when there is an error. Nothing is started, and neither GPU
    nor Ray is needed.
    """
    from dualpath_ray.ops.doctor import report
    from dualpath_ray.ops.doctor.check import has_error, lines

    checks = report.examine(config, address)
    click.echo(json.dumps(report.as_json(checks), indent=2) if as_json else "\n".join(lines(checks)))
    return FAILED if has_error(checks) else OK
