"""``dualpath calibrate``: the simulator's costs fitted to live runs, and how well they predict others (invariant 6)."""

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
from dualpath_ray.planning.live_run import LiveRun, join_repeats, load_live_runs, turn_gap_s
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
_STEPS = (0.1, 0.03)  # of a parameter's logarithm, for the slope: coarse first, as single events change places
_RANGE = 6.0  # of a parameter's logarithm, to each side of where the search begins: a factor of 400
_STARTS = 6  # searches; which of several valleys one ends in is chance
_MOST_STEPS = 40
_PRIOR = 0.003  # weight of a parameter's logarithm: one that no run depends on stays where it begins


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
        _ttft_p50_s(record),
        run.tpot_p50_s,
        float(np.median(tpot)) if len(tpot) else 0.0,
    )


def fit(runs: Sequence[LiveRun]) -> FittedCosts:
    """Costs with which the simulated runs come closest to the live ones.

    The profile and an agent's pause between turns are measured; the rest is fitted by least squares over the logarithms
    of the parameters. What is compared are the means over a run's turns of all stages from submit to the last token, the
    median TTFT, and the job completion time.
    Raises: ConfigError when the runs are not of one model on one machine.
    """
    from scipy.optimize import least_squares

    first = runs[0]
    _check_alike(runs)
    turn_s = turn_gap_s(runs)
    begin = np.log([start for _, _, start in _FITTED])

    def costs(x: np.ndarray) -> FittedCosts:
        values: dict[str, dict[str, float]] = {"prefill": {}, "decode": {}, "delays": {"turn_s": turn_s}}
        for (section, name, _), value in zip(_FITTED, np.exp(begin + x), strict=True):
            values[section][name] = float(value)
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

    def residuals(x: np.ndarray) -> np.ndarray:
        found = [_PRIOR * x]
        fitted = costs(x)
        for run, measured in zip(runs, live, strict=True):
            record = simulate_live(run, fitted)
            columns = {name: column(record.turns, name) for name in _STAGE_COLUMNS}
            # Each stage counts by its share of a turn: what takes no time need not be met.
            found.append((_stages(columns) - measured) / measured.sum())
            found.append(np.log([record.jct_s / run.jct_s, _ttft_p50_s(record) / run.ttft_p50_s]))
        return np.concatenate(found)

    def search(x: np.ndarray, step: float) -> Any:
        def slopes(x: np.ndarray) -> np.ndarray:
            """Of the residuals, [residuals, parameters]."""
            moves = step * np.eye(len(x))
            return np.stack([(residuals(x + move) - residuals(x - move)) / (2 * step) for move in moves], axis=1)

        return least_squares(residuals, x, slopes, (-_RANGE, _RANGE), max_nfev=_MOST_STEPS)

    random = np.random.default_rng(0)
    starts = [np.zeros(len(_FITTED)), *random.normal(0, 1, (_STARTS - 1, len(_FITTED)))]
    found = [search(start, _STEPS[0]) for start in starts]
    best = min(found, key=lambda search: search.cost)
    for step in _STEPS[1:]:
        best = search(best.x, step)
    return costs(best.x)


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


def _stages(turns: dict[str, np.ndarray]) -> np.ndarray:
    """Mean seconds between the ends of successive stages, [stages]."""
    return np.array(
        [
            np.mean(turns[after] - turns[before])
            for before, after in zip(_STAGE_COLUMNS, _STAGE_COLUMNS[1:], strict=False)
        ]
    )


def _ttft_p50_s(record: RunRecord) -> float:
    return float(np.median(column(record.turns, "ttft_s")))


def run_calibrate(
    fitted_to: Sequence[Path], predicted: Sequence[Path], out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """The whole of ``dualpath calibrate``. Directories of the same name hold repeats of the same runs.

    Returns: costs and predictions, as written to ``--json``.
    """
    runs = join_repeats([run for directory in fitted_to for run in load_live_runs(directory)])
    others = join_repeats([run for directory in predicted for run in load_live_runs(directory)])
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
