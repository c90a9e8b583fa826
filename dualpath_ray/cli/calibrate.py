"""``dualpath calibrate``: what computation costs here, fitted to live runs."""

import json
from pathlib import Path

import click


@click.command(short_help="Fit the simulator to live runs, and predict others.")
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--predict",
    "predicted",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Results of other live runs, to be predicted; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/costs.yaml"),
    show_default=True,
    help="File of the costs, for --costs of simulate and plan.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def calibrate(runs: tuple[Path, ...], predicted: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Fit the simulator's engines to RUNS, directories that `dualpath rollout --out` wrote."""
    from dualpath_ray.planning.calibrate import run_calibrate

    result = run_calibrate(runs, predicted, out, lambda line: click.echo(line, err=as_json))
    if as_json:
        click.echo(json.dumps(result, indent=1))
