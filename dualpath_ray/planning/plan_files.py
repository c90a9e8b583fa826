"""``dualpath plan``: a plan as a table, a sentence, and the files ``plan.json`` and ``plan.svg``."""

import json
import platform
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dualpath_ray import __version__
from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.chart_plan import PlanBars, plan_svg
from dualpath_ray.planning.candidate import BASIC, SINGLE
from dualpath_ray.planning.choice import Row, gain
from dualpath_ray.planning.objective import JobTime
from dualpath_ray.planning.plan import Echo, Plan, make_plan
from dualpath_ray.planning.plan_options import PlanOptions
from dualpath_ray.planning.plan_table import NAMES, first_words, plan_table
from dualpath_ray.planning.simulate import Encode
from dualpath_ray.planning.verdict import value_words

DEFAULT_OUT = Path("runs/plan")
FAILED = 1


def run_plan(path: Path, options: PlanOptions, encode: Encode | None, echo: Echo, progress: Echo) -> int:
    """The whole of ``dualpath plan``. Returns the exit code: 1 when no split does what was asked for.

    Args: progress: gets what is of no more interest once the table is there.
    """
    plan = make_plan(path, options, encode, progress)
    out = Path(options.out or DEFAULT_OUT).expanduser().resolve()
    result = json.dumps(plan_json(plan, options), indent=1)
    _write(out, result + "\n", plan_picture(plan, options))
    if options.as_json:
        echo(result)
    else:
        echo(plan_table(plan.shown, plan.best.split if plan.best and plan.works else None, plan.online, plan.free))
        echo(plan.sentence.replace("×", "x"))
        echo(f"plan (simulated): {out / 'plan.json'}    picture: {out / 'plan.svg'}")
    return 0 if plan.works else FAILED


def plan_json(plan: Plan, options: PlanOptions) -> dict[str, Any]:
    """Everything that is known, with the command and the version that it comes from."""
    if isinstance(plan.objective, JobTime):
        asked: dict[str, Any] = {"num_agents": plan.objective.num_agents}
    else:
        asked = {"slo": asdict(options.slo), "aps": options.aps}
    return {
        "command": shlex.join(["dualpath", *sys.argv[1:]]),
        "versions": {"dualpath_ray": __version__, "python": platform.python_version(), "device": "simulated"},
        "simulated": True,
        "decision": plan.sentence,
        "split": str(plan.best.split) if plan.best and plan.works else None,
        "objective": "online" if plan.online else "offline",
        "unit": plan.objective.unit,
        **asked,
        "bottleneck_free_range": asdict(plan.free) if plan.free else None,
        "splits": [_row_json(row, plan.online) for row in plan.rows],
    }


def plan_picture(plan: Plan, options: PlanOptions) -> str:
    """A standalone SVG."""
    axis = (
        "arriving agents per second within the SLO, more is better"
        if plan.online
        else "job completion time, less is better"
    )
    rows = [
        PlanBars(
            label=str(row.split),
            note=_note(row),
            bars=[
                (name, row.outcomes[system].value, value_words(row.outcomes[system].value, plan.online))
                for system, name in NAMES.items()
                if system in row.outcomes
            ],
            says=_says(row, plan.online),
            best=plan.works and row is plan.best,
        )
        for row in plan.shown
    ]
    return plan_svg(plan.title, rows, f"{axis} (simulated)", options.aps)


def _row_json(row: Row, online: bool) -> dict[str, Any]:
    return {
        "split": str(row.split),
        "prefill_nodes": row.split.prefill_nodes,
        "decode_nodes": row.split.decode_nodes,
        "does_not_fit": row.unfit or None,
        "first_link": row.first_link,
        "bound": asdict(row.bound) if row.bound else None,
        "gain_over_single_path": gain(row, SINGLE, online),
        "gain_over_basic": gain(row, BASIC, online),
        **{system: asdict(outcome) for system, outcome in row.outcomes.items()},
    }


def _note(row: Row) -> str:
    """Under the split's name."""
    if row.unfit:
        return "does not fit"
    return f"P/D {row.split.prefill_nodes / row.split.decode_nodes:.2f}, {first_words(row)}"


def _says(row: Row, online: bool) -> str:
    """In place of bars."""
    if row.bound is None:
        return row.unfit
    if row.bound.refused:
        return row.bound.refused
    return f"not simulated: {'at most' if online else 'at least'} {value_words(row.bound.value, online)} ({row.bound.resource})"


def _write(out: Path, result: str, picture: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "plan.json").write_text(result)
        (out / "plan.svg").write_text(picture, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"--out: {out} cannot be written: {error.strerror or error}; name another directory, or free some space"
        ) from error
