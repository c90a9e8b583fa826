"""``dualpath kuberay``: what the pods of a system need on Kubernetes."""

from pathlib import Path

import click

from dualpath_ray.cli.errors import FAILED, OK


@click.command(short_help="Sizes of a system's pods on Kubernetes.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", help="A model of the same shape that is here, when FILE names one that only pods have.")
def kuberay(file: Path, model: str | None) -> int:
    """Print the least that the pods of each role need, as settings.yaml of an overlay in cluster_configs/kuberay has it.

    FILE is a system's configuration, or such a settings.yaml; of the latter every size that is too small is named, and
    the exit code is 1 when there is one.
    """
    from dualpath_ray.ops.kuberay.settings import as_settings
    from dualpath_ray.ops.kuberay.sizes import sizes

    found = sizes(file, model)
    click.echo(f"# the least that pods need for {found.model}")
    click.echo(as_settings(found.needs))
    for sentence in found.short:
        click.echo(sentence, err=True)
    return FAILED if found.short else OK
