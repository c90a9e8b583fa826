"""``dualpath bench prediction``: how near the simulator comes to live runs that it has not seen (invariant 6).

Its costs are fitted to two live systems, one between storage and computation and one that computation bounds: the first
alone does not tell the cost of decoding from that of sharing cores. Three others are run with another workload and
simulated with these costs: one that storage bounds, one between, and one that computation bounds. What computation
bounds is run three times, since the same work takes 4 % more or less from run to run where cores are shared.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from dualpath_ray.bench.compare_live import compare_live
from dualpath_ray.bench.result import write_result
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.planning.calibrate import run_calibrate

JCT_LIMIT, TTFT_LIMIT = 0.10, 0.15  # the most that a prediction may be off


@dataclass(frozen=True, slots=True)
class System:
    """A configuration of ``cluster_configs`` at a rate of its storage NICs, and what runs there."""

    bound: str  # what it waits for
    config: str
    snic_rate: str
    options: RolloutOptions
    repeats: int = 1


MODES = ("prefill_only", "scheduled")
FITTED = RolloutOptions(num_trajectories=8, max_turns=16, total_tokens=900, gen_tokens=4, compare=MODES)
OTHER = replace(FITTED, max_turns=14, total_tokens=800, seed=1)
CALIBRATION = (
    System("mixed", "laptop_1p1d", "30 MB/s", FITTED),
    System("compute-bound", "laptop_1p2d", "1 GB/s", FITTED, repeats=3),
)
PREDICTED = (
    System("storage-bound", "laptop_1p2d", "5 MB/s", OTHER),
    System("mixed", "laptop_2p1d", "20 MB/s", OTHER),
    System("compute-bound", "laptop_1p1d", "2 GB/s", OTHER, repeats=3),
)


def run(config_dir: Path, out: Path, echo: Callable[[str], None], live: TextIO | None) -> dict[str, Any]:
    """Run the benchmark and write ``prediction.json``, ``costs.yaml`` and for each round a folder of live systems.

    Raises: ConfigError naming file and key.
    """
    make_out(out)

    def measured(system: System) -> list[Path]:
        config = config_dir / f"{system.config}.yaml"
        rounds = [out / f"round{i + 1}" for i in range(system.repeats)]
        return [compare_live(config, system.snic_rate, system.options, each, echo, live).directory for each in rounds]

    directories = {system: measured(system) for system in CALIBRATION + PREDICTED}
    bounds = {found[0].name: system.bound for system, found in directories.items()}
    fitted, others = (
        [directory for system in systems for directory in directories[system]] for systems in (CALIBRATION, PREDICTED)
    )
    found = run_calibrate(fitted, others, out / "costs.yaml", echo)
    rows = [{"bound": bounds[row["run"].split()[0]], **row} for row in found["rows"]]
    result = {"jct_error_limit": JCT_LIMIT, "ttft_p50_error_limit": TTFT_LIMIT, "rows": rows, "costs": found["costs"]}
    write_result(out / "prediction.json", result)
    echo(verdict(rows))
    return result


def verdict(rows: list[dict[str, Any]]) -> str:
    """The worst of the predictions beside what they may be off."""
    predicted = [row for row in rows if row["kind"] == "predicted"]
    worst = [max(abs(row[key]) for row in predicted) for key in ("jct_error", "ttft_p50_error")]
    return (
        f"{len(predicted)} predictions: JCT at most {worst[0]:.1%} off (limit {JCT_LIMIT:.0%}), "
        f"TTFT p50 at most {worst[1]:.1%} (limit {TTFT_LIMIT:.0%})"
    )
