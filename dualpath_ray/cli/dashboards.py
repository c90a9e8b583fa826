"""``dualpath dashboards``: Grafana panels and Prometheus alerts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dualpath_ray.ops.dashboards import Written

_DOCS = click.option("--docs", metavar="URL", help="Of the folder that holds troubleshooting.md, for alerts' runbooks.")


@click.group(short_help="Grafana dashboard and Prometheus alerts: install, export.")
def dashboards() -> None:
    """The Grafana dashboard and the Prometheus alert rules of a running system."""


@dashboards.command()
@click.option(
    "--session",
    type=click.Path(path_type=Path),
    help="Directory of a Ray session on this host.  [default: the latest one]",
)
@_DOCS
def install(session: Path | None, docs: str | None) -> None:
    """Put dashboard and alerts into the folders of a Ray session. Our first panels come into its Metrics tab."""
    from dualpath_ray.ops import dashboards as files

    folders = files.ray_folders(session, os.environ)
    _say(files.install(folders, docs))
    for sentence in files.next_steps(folders):
        click.echo(sentence)


@dashboards.command()
@click.argument("directory", type=click.Path(path_type=Path))
@_DOCS
def export(directory: Path, docs: str | None) -> None:
    """Write the dashboard and the alert rules into DIRECTORY, for a Grafana and a Prometheus elsewhere."""
    from dualpath_ray.ops import dashboards as files

    _say(files.export(directory, docs))


@dashboards.command("docs")
def documentation() -> None:
    """Print docs/metrics.md: every metric with its unit, labels and meaning."""
    from dualpath_ray.observability.metric_docs import metrics_page

    click.echo(metrics_page(), nl=False)


def _say(written: "list[Written]") -> None:
    for each in written:
        click.echo(f"{each.path}: {each.what}" + (", as it was" if each.unchanged else ""))
