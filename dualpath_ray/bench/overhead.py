"""``dualpath bench overhead``: where storage is no bottleneck, the second path must cost nothing.

Pairs of runs, prefill_only and scheduled, interleaved and with their order swapped every time, on fast SNICs. The median
of the pairs' ratios stands beside its bound; both runs of a pair do the same work.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from dualpath_ray.base.types import ReadPath
from dualpath_ray.bench.result import write_result
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.ops.rollout import prepare, run_all

WORKLOAD = RolloutOptions(num_trajectories=8, max_turns=8, total_tokens=480, gen_tokens=4, verify_tokens=False)
MODES = ("prefill_only", "scheduled")
JCT_BOUND = 1.05
CPU_BOUND = 1.03


def run(
    config: Path,
    num_pairs: int = 5,
    out: Path = Path("runs/bench-overhead"),
    echo: Callable[[str], None] = print,
    live: TextIO | None = None,
) -> dict[str, Any]:
    """Run the pairs and write ``overhead.json``.

    Args:   live: where progress is shown, standard output when None.
    Raises: ConfigError naming file and key.
    """
    make_out(out)
    options = replace(WORKLOAD, compare=MODES)
    prepared = prepare(config, options)
    pairs = []
    for number in range(num_pairs):
        runs = prepared.runs if number % 2 == 0 else prepared.runs[::-1]
        records = run_all(replace(prepared, runs=runs), options, echo, live=live)
        by_mode = {r.mode: r for r in records}
        pairs.append(_pair(by_mode["prefill_only"], by_mode["scheduled"]))
        echo(
            f"pair {number + 1}/{num_pairs}: JCT ratio {pairs[-1]['jct_ratio']:.3f}, CPU ratio {pairs[-1]['cpu_ratio']:.3f}"
        )
    result = {
        "jct_ratio_median": statistics.median(p["jct_ratio"] for p in pairs),
        "jct_ratio_bound": JCT_BOUND,
        "cpu_s_per_turn_ratio_median": statistics.median(p["cpu_ratio"] for p in pairs),
        "cpu_s_per_turn_ratio_bound": CPU_BOUND,
        "pairs": pairs,
    }
    write_result(out / "overhead.json", result)
    echo(
        f"scheduled / prefill_only, median of {num_pairs} pairs: JCT {result['jct_ratio_median']:.3f} (bound {JCT_BOUND}), "
        f"CPU seconds a turn {result['cpu_s_per_turn_ratio_median']:.3f} (bound {CPU_BOUND})"
    )
    return result


def _pair(single: RunRecord, dual: RunRecord) -> dict[str, float]:
    return {
        "jct_ratio": dual.jct_s / single.jct_s,
        "cpu_ratio": (dual.cpu_s / len(dual.turns)) / (single.cpu_s / len(single.turns)),
        "scheduled_de_path_ratio": sum(t.read_path == ReadPath.DE for t in dual.turns) / len(dual.turns),
        "prefill_only_jct_s": single.jct_s,
        "scheduled_jct_s": dual.jct_s,
        "prefill_only_cpu_s_per_turn": single.cpu_s / len(single.turns),
        "scheduled_cpu_s_per_turn": dual.cpu_s / len(dual.turns),
    }
