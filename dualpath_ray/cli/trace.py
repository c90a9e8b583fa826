"""``dualpath trace``: what a request of a running system waited for, and why."""

import json
from pathlib import Path

import click

from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="What a request of a running system waited for, and why.")
@click.argument("request")
@of_a_system
@click.option("--out", type=click.Path(path_type=Path), help="File for Perfetto.  [default: trace-REQUEST.json]")
def trace(request: str, name: str | None, address: str | None, out: Path | None) -> None:
    """Print why a REQUEST (or the start of its id) went where it went, what each stage took, and what was recomputed.

    Writes a file that ui.perfetto.dev opens: the request over all nodes and layers. Only the last requests are known.
    """
    from dualpath_ray.cluster.attach import the_system
    from dualpath_ray.cluster.trace import collect
    from dualpath_ray.ops.lifecycle.connection import joined
    from dualpath_ray.ops.results_dir import writing_to
    from dualpath_ray.ops.trace import perfetto, trace_text

    with joined(address):
        found = collect(the_system(name), request)
    click.echo(trace_text(found))
    path = out or Path(f"trace-{found.decision['request_id']}.json")
    with writing_to(path):
        path.write_text(json.dumps(perfetto(found)))
    click.echo(f"\nfor ui.perfetto.dev: {path.resolve()}")
