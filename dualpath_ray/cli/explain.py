"""``dualpath explain``: why a request went where it went."""

from pathlib import Path

import click


@click.command(short_help="Why a request went where it went.")
@click.argument("request")
@click.option(
    "--out",
    "results",
    type=click.Path(path_type=Path),
    default=Path("runs/latest"),
    show_default=True,
    help="Results of the rollout.",
)
def explain(request: str, results: Path) -> None:
    """Show what the scheduler knew when it placed a REQUEST (or the start of its id), and decide again from that."""
    from dualpath_ray.ops.explain import explain as explain_request

    click.echo(explain_request(request, results))
