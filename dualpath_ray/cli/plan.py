"""``dualpath plan``: from nodes and a trace to the split to use."""

from pathlib import Path
from typing import Any

import click

from dualpath_ray.cli.simulate import encoder_of
from dualpath_ray.cli.workload_options import check_workload_flags, workload_options

_OWN = ("nodes", "offline", "aps", "costs", "out", "as_json")


@click.command(short_help="Which prefill/decode split to use, and what dual path gains.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--nodes", type=int, help="Nodes to divide.  [default: as many as CONFIG has]")
@workload_options("table2-64k", ablations=False)
@click.option("--offline", is_flag=True, help="Judge by the time of a job whose agents all start at once.")
@click.option("--aps", type=float, help="Agents a second that must be sustained; without it: as many as possible.")
@click.option("--slo-ttft", type=float, help="Seconds of mean TTFT that must be kept.  [4]")
@click.option("--slo-tpot", type=float, help="Seconds of mean TPOT that must be kept.  [0.05]")
@click.option(
    "--costs", type=click.Path(path_type=Path), help="What `dualpath calibrate` wrote, instead of a data sheet."
)
@click.option("--out", help="Directory of plan.json and plan.svg.  [default: runs/plan]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def plan(config: Path, slo_ttft: float | None, slo_tpot: float | None, **flags: Any) -> int:
    """Divide the nodes of a CONFIG file into prefill and decode: every split is checked, the promising ones simulated.

    By default the best split is the one that sustains the highest rate of arriving agents within the SLO.
    """
    from dualpath_ray.base.errors import ConfigError
    from dualpath_ray.planning.online import SLO_TPOT_S, SLO_TTFT_S, Slo
    from dualpath_ray.planning.options import SimulateOptions
    from dualpath_ray.planning.plan_files import run_plan
    from dualpath_ray.planning.plan_options import PlanOptions

    check_workload_flags(flags)
    if flags["offline"] and (slo_ttft is not None or slo_tpot is not None):
        raise ConfigError("--offline and an SLO contradict each other: of a job only the end counts")
    own = {name: flags.pop(name) for name in _OWN}
    slo = Slo(SLO_TTFT_S if slo_ttft is None else slo_ttft, SLO_TPOT_S if slo_tpot is None else slo_tpot)
    options = PlanOptions(workload=SimulateOptions(**flags), slo=slo, **own)
    return run_plan(config, options, encoder_of(config), click.echo, lambda line: click.echo(line, err=True))
