"""``dualpath calibrate``: the simulator's costs fitted to live runs, and how well they predict others (invariant 6)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.costs import FittedCosts
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.observability.turn_columns import column
from dualpath_ray.planning.live_run import LiveRun, load_live_runs, turn_gap_s
from dualpath_ray.planning.simulate import simulate
from dualpath_ray.simulator.build import cluster_spec, typical_turn

# What is searched, with where the search begins; the others are measured directly.
_FITTED: tuple[tuple[str, str, float], ...] = (
    ("prefill", "token_s", 2e-3),
    ("prefill", "request_s", 5e-3),
    ("prefill", "batch_s", 2e-2),
    ("prefill", "s_per_attention_flop", 1e-11),
    ("decode", "step_s", 3e-2),
    ("decode", "sequence_s", 1e-2),
    ("decode", "context_s", 1e-6),
    ("delays", "submit_s", 1e-2),
    ("delays", "read_s", 1e-2),
    ("delays", "hand_over_s", 1e-2),
)
_STEPS = (2.0, 1.4, 1.15, 1.05, 1.02)  # factors by which a parameter is changed, coarse ones first
_ROUNDS = 12  # over all parameters, at each step


@dataclass(frozen=True, slots=True)
class Prediction:
    """A live run beside its simulation, in seconds."""

    run: str
    jct_live_s: float
    jct_s: float
    ttft_p50_live_s: float
    ttft_p50_s: float
    tpot_p50_live_s: float
    tpot_p50_s: float

    @property
    def jct_error(self) -> float:
        """Simulated over live, less one."""
        return self.jct_s / self.jct_live_s - 1

    @property
    def ttft_error(self) -> float:
        return self.ttft_p50_s / self.ttft_p50_live_s - 1


def simulate_live(run: LiveRun, costs: FittedCosts) -> RunRecord:
    """The same workload on the same system, simulated."""
    spec = cluster_spec(run.config, run.name, typical_turn(run.trajectories), costs)
    return simulate(spec, run.trajectories, len(run.trajectories), run.name)


def predict(run: LiveRun, costs: FittedCosts) -> Prediction:
    """What the costs say of a run, beside what was measured."""
    record = simulate_live(run, costs)
    later = column(record.turns, "generated_tokens") > 1
    tpot = column(record.turns, "tpot_s")[later]
    return Prediction(
        run.name,
        run.jct_s,
        record.jct_s,
        run.ttft_p50_s,
        float(np.median(column(record.turns, "ttft_s"))),
        run.tpot_p50_s,
        float(np.median(tpot)) if len(tpot) else 0.0,
    )


def fit(runs: Sequence[LiveRun]) -> FittedCosts:
    """Costs with which the simulated runs come closest to the live ones.

    The profile and an agent's pause between turns are measured; the rest is searched, one parameter after another. What
    is compared are the means over a run's turns of all stages from submit to the last token, and the job completion time.
    Raises: ConfigError when the runs are not of one model on one machine.
    """
    first = runs[0]
    _check_alike(runs)
    values: dict[str, dict[str, float]] = {"prefill": {}, "decode": {}, "delays": {}}
    for section, name, start in _FITTED:
        values[section][name] = start
    values["delays"]["turn_s"] = turn_gap_s(runs)

    def costs() -> FittedCosts:
        return FittedCosts.model_validate(
            {
                "model": first.config.model,
                "fitted_to": ", ".join(run.name for run in runs),
                "cores": first.cores,
                "threads": first.threads,
                "read_bytes_per_s": first.profile.get("read_bytes_per_s") or None,  # 0: the short profile did not read
                "prompt_tokens_per_s": first.profile["prompt_tokens_per_s"],
                **values,
            }
        )

    live = [_stages(run.turns) for run in runs]

    def distance() -> float:
        total = 0.0
        for run, measured in zip(runs, live, strict=True):
            record = simulate_live(run, costs())
            found = _stages({name: column(record.turns, name) for name in _STAGE_COLUMNS})
            # Each stage counts by its share of a turn: what takes no time need not be met.
            whole = sum(measured)
            total += sum(((a - b) / whole) ** 2 for a, b in zip(found, measured, strict=True))
            total += math.log(record.jct_s / run.jct_s) ** 2
        return total

    best = distance()
    for factor in _STEPS:
        for _ in range(_ROUNDS):
            before = best
            for section, name, _start in _FITTED:
                at = values[section][name]
                for tried in (at * factor, at / factor):
                    values[section][name] = tried
                    found = distance()
                    if found < best:
                        best, at = found, tried
                    values[section][name] = at
            if best > before * 0.995:
                break
    return costs()


def _check_alike(runs: Sequence[LiveRun]) -> None:
    """Raises: ConfigError when the runs are not of one model on one machine."""
    first = runs[0]
    for run in runs:
        if (run.config.model, run.cores) != (first.config.model, first.cores):
            raise ConfigError(
                f"{run.name}: {run.config.model} on {run.cores} cores, but {first.name} is {first.config.model} on "
                f"{first.cores}; calibrate and predict with runs of one model on one machine"
            )


_STAGE_COLUMNS = (
    "submit_s",
    "assigned_s",
    "source_ready_s",
    "prefill_start_s",
    "prefill_end_s",
    "loaded_s",
    "finished_s",
)


def _stages(turns: dict[str, np.ndarray]) -> list[float]:
    """Mean seconds between the ends of successive stages."""
    return [
        float(np.mean(turns[after] - turns[before]))
        for before, after in zip(_STAGE_COLUMNS, _STAGE_COLUMNS[1:], strict=False)
    ]


def run_calibrate(
    fitted_to: Sequence[Path], predicted: Sequence[Path], out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """The whole of ``dualpath calibrate``. Returns: costs and predictions, as written to ``--json``."""
    runs = [run for directory in fitted_to for run in load_live_runs(directory)]
    others = [run for directory in predicted for run in load_live_runs(directory)]
    _check_alike([*runs, *others])
    echo(f"fitting to {len(runs)} live run(s)")
    costs = fit(runs)
    data = costs.model_dump(exclude_none=True)
    text = "# Written by `dualpath calibrate`; use it with `dualpath simulate --costs` and `dualpath plan --costs`.\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + yaml.safe_dump(data, sort_keys=False))
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror or error}") from error
    rows = [("fitted", predict(run, costs)) for run in runs] + [("predicted", predict(run, costs)) for run in others]
    for line in table(rows):
        echo(line)
    echo(f"costs: {out}")
    return {"costs": data, "rows": [_row(kind, row) for kind, row in rows]}


def table(rows: Sequence[tuple[str, Prediction]]) -> list[str]:
    """Lines of text: live, simulated and the error."""
    width = max(len(row.run) for _, row in rows)
    live = "live simulated   error"
    head = f"{'':<10}{'run':<{width}}   JCT {live}  TTFT p50 {live}"
    return [head] + [
        f"{kind:<10}{row.run:<{width}}  {row.jct_live_s:>7.1f} s {row.jct_s:>7.1f} s {row.jct_error:>+7.1%}   "
        f"{row.ttft_p50_live_s:>7.2f} s {row.ttft_p50_s:>7.2f} s {row.ttft_error:>+7.1%}"
        for kind, row in rows
    ]


def _row(kind: str, row: Prediction) -> dict[str, Any]:
    return {
        "kind": kind,
        "run": row.run,
        "jct_live_s": row.jct_live_s,
        "jct_simulated_s": row.jct_s,
        "jct_error": row.jct_error,
        "ttft_p50_live_s": row.ttft_p50_live_s,
        "ttft_p50_simulated_s": row.ttft_p50_s,
        "ttft_p50_error": row.ttft_error,
        "tpot_p50_live_s": row.tpot_p50_live_s,
        "tpot_p50_simulated_s": row.tpot_p50_s,
    }
