"""The ``dualpath`` command. A command imports what it needs when it runs, so that help is quick."""

import sys
from collections.abc import Sequence

import click

from dualpath_ray import __version__
from dualpath_ray.cli.bench import bench
from dualpath_ray.cli.calibrate import calibrate
from dualpath_ray.cli.change import drain, scale, set_, undrain
from dualpath_ray.cli.config import config
from dualpath_ray.cli.dashboards import dashboards
from dualpath_ray.cli.demo import demo
from dualpath_ray.cli.doctor import doctor
from dualpath_ray.cli.errors import clean_up_when_terminated, exit_code_of
from dualpath_ray.cli.explain import explain
from dualpath_ray.cli.fabric import fabric
from dualpath_ray.cli.groups import GroupedCommands
from dualpath_ray.cli.kuberay import kuberay
from dualpath_ray.cli.logs import debug_bundle, logs
from dualpath_ray.cli.models import models
from dualpath_ray.cli.plan import plan
from dualpath_ray.cli.profile import profile
from dualpath_ray.cli.reproduce import reproduce
from dualpath_ray.cli.rollout import rollout
from dualpath_ray.cli.simulate import simulate
from dualpath_ray.cli.status import status
from dualpath_ray.cli.trace import trace
from dualpath_ray.cli.ui import ui
from dualpath_ray.cli.up import down, up


@click.group(cls=GroupedCommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="dualpath")
def cli() -> None:
    """Disaggregated inference for agents whose KV-cache is loaded along two paths (DualPath, arXiv 2602.21548)."""


assert isinstance(cli, GroupedCommands)
cli.add("try", demo)
cli.add("try", models)
cli.add("try", doctor)
cli.add("run", rollout)
cli.add("operate", up)
cli.add("operate", status)
cli.add("operate", ui)
cli.add("operate", set_)
cli.add("operate", scale)
cli.add("operate", drain)
cli.add("operate", undrain)
cli.add("operate", logs)
cli.add("operate", debug_bundle)
cli.add("operate", down)
cli.add("operate", dashboards)
cli.add("plan", plan)
cli.add("plan", simulate)
cli.add("plan", calibrate)
cli.add("plan", reproduce)
cli.add("plan", config)
cli.add("plan", profile)
cli.add("plan", fabric)
cli.add("plan", kuberay)
cli.add("measure", bench)
cli.add("measure", explain)
cli.add("measure", trace)


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line. Returns the exit code: 0, 1 failed, 2 bad input, 130 interrupted."""
    return exit_code_of(lambda: cli.main(arguments, prog_name="dualpath", standalone_mode=False))


def main() -> None:
    clean_up_when_terminated()
    sys.exit(run())
