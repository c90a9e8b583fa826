"""``dualpath ui``."""

from pathlib import Path

import click

from dualpath_ray.cli.system_options import of_a_system


@click.command(short_help="Show a running system on a live page.")
@of_a_system
@click.option("--host", help="Address to listen on; any but this machine's own needs a token.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port; 0: a free one.  [default: 8266]")
@click.option("--runs", type=click.Path(path_type=Path), help="Directory of past results.  [default: runs]")
@click.option("--open/--no-open", "open_", default=False, show_default=True, help="Open it in the browser.")
def ui(
    name: str | None, address: str | None, host: str | None, port: int | None, runs: Path | None, open_: bool
) -> int:
    """Show nodes, links and decisions of a running system, switch its read path, and compare past runs.

    Where the system serves its page itself (`dualpath up --ui-port`), this says where. Else, or with --host, --port or
    --runs, this process serves it until Ctrl-C. DUALPATH_UI_TOKEN is the token; unset, one is made up where it is needed.
    """
    import os
    import threading

    from dualpath_ray.cli.errors import OK
    from dualpath_ray.ops.lifecycle.connection import joined
    from dualpath_ray.ui.serve import PageOptions, show_page

    options = PageOptions(host, port, runs, os.environ.get("DUALPATH_UI_TOKEN") or None, open_)
    try:
        with joined(address):
            show_page(name, options, click.echo, threading.Event())
    except KeyboardInterrupt:  # that is how it is meant to end
        pass
    return OK
