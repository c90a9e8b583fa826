"""``dualpath bench scheduler``: how many requests one scheduler places, and how long a fetch takes (section 7.6).

The pure policy, then the same through the detached actor, for 6, 48 and 1,152 engines and queues of up to 10^5 waiting
requests; then what the actor needs at the rates of the paper's two large systems. No engine and no KV is there: the
groups only count (``scheduler_load.py``), and requests carry no tokens.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualpath_ray.bench.actor import Rate, SchedulerBench
from dualpath_ray.bench.result import write_result
from dualpath_ray.bench.scheduler_policy import measure_policy
from dualpath_ray.ops.results_dir import make_out

SYSTEMS = ((2, 4, 1), (2, 4, 8), (48, 96, 8))  # prefill nodes, decode nodes, engines of a node
QUEUES = (1_000, 10_000, 100_000)
LARGE = 1152  # engines, from which the limits below hold
POLICY_PER_S = 50_000
ACTOR_PER_S = 10_000
FETCH_OVER_EMPTY = 3.0
CORES = 1.0
# 48K agents x 157 turns in 48P96D's JCT of 3201 s: 27K are at decode engines, which is all that their HBM holds, and most
# others wait. 44P88D: 8.8 arrivals/s x 157 turns. Fetch intervals are those of their configurations.
RATES = {
    "48P96D": ((48, 96, 8), 20_000, Rate(2354, interval_s=0.2, num_clients=8, prefill_s=4.0, decode_s=11.7)),
    "44P88D": ((44, 88, 8), 0, Rate(1382, interval_s=0.1, num_clients=8, prefill_s=1.0, decode_s=6.0)),
}
TIME_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One measurement. What stands for the policy alone or the actor alone is None for the other."""

    name: str  # policy, actor, or actor at the rate of a system
    num_engines: int
    num_waiting: int
    assignments_per_s: float
    fetch_p99_s: float  # of the policy alone: CPU time of a report, a plan and what is there for the group
    assignments_per_s_limit: float | None = None  # at least
    assignments_per_s_with_reports: float | None = None
    report_mean_s: float | None = None
    fetch_p50_s: float | None = None
    empty_call_p50_s: float | None = None
    empty_call_p99_s: float | None = None  # of a call that does nothing, in turn with the fetches
    fetch_over_empty_p99_ratio: float | None = None
    fetch_over_empty_p99_ratio_limit: float | None = None  # at most
    num_fetches: int | None = None  # that the times are of
    calls_per_s: float | None = None
    assignments_per_cpu_s: float | None = None  # of the scheduler's process: the leaders share two cores with it
    cores: float | None = None  # that the scheduler's process used
    cores_limit: float | None = None  # at most


def run(
    systems: Sequence[tuple[int, int, int]] = SYSTEMS,
    queues: Sequence[int] = QUEUES,
    seconds: float = 5.0,
    rates: Sequence[str] = tuple(RATES),
    out: Path = Path("runs/bench-scheduler"),
    echo: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the benchmark and write ``scheduler.json``.

    Args:   systems: prefill nodes, decode nodes, engines of a node; seconds: of a measurement; rates: names in RATES.
    Raises: ConfigError when Ray cannot start or ``out`` cannot be written.
    """
    make_out(out)
    end = time.monotonic() + TIME_LIMIT_S
    rows: list[SchedulerRow] = []

    def add(row: SchedulerRow) -> None:
        rows.append(row)
        echo(f"{row.name}, {row.num_engines} engines, {row.num_waiting} waiting: {row.assignments_per_s:.0f}/s")

    cases = [(system, num) for system in systems for num in queues]
    for system, num in cases:
        add(_policy(system, num, seconds))
    skipped: list[str] = []
    with SchedulerBench() as bench:
        for name in rates:
            add(_at_rate(bench, name, 2 * seconds))
        for system, num in reversed(cases):  # the large ones first, should time run out
            if time.monotonic() < end - 4 * seconds:
                add(_actor(bench, system, num, seconds))
            else:
                skipped.append(f"actor, {_engines(system)} engines, {num} waiting")
    result = {"rows": [asdict(row) for row in rows], "skipped": skipped}
    write_result(out / "scheduler.json", result)
    echo(table(result))
    return result


def _policy(system: tuple[int, int, int], num_waiting: int, seconds: float) -> SchedulerRow:
    figures = measure_policy(system, num_waiting, seconds)
    return SchedulerRow(
        "policy",
        _engines(system),
        num_waiting,
        figures.assignments_per_s,
        figures.fetch_p99_s,
        assignments_per_s_limit=POLICY_PER_S if _engines(system) >= LARGE else None,
        assignments_per_s_with_reports=figures.assignments_per_s_with_reports,
        report_mean_s=figures.report_mean_s,
    )


def _actor(bench: SchedulerBench, system: tuple[int, int, int], num_waiting: int, seconds: float) -> SchedulerRow:
    figures = bench.measure(system, num_waiting, seconds)
    return SchedulerRow(
        "actor",
        _engines(system),
        num_waiting,
        assignments_per_s_limit=ACTOR_PER_S if _engines(system) >= LARGE else None,
        fetch_over_empty_p99_ratio=figures.fetch_p99_s / figures.empty_call_p99_s,
        fetch_over_empty_p99_ratio_limit=FETCH_OVER_EMPTY,
        assignments_per_cpu_s=figures.assignments_per_s / figures.cores,
        **asdict(figures),
    )


def _at_rate(bench: SchedulerBench, name: str, seconds: float) -> SchedulerRow:
    system, num_waiting, rate = RATES[name]
    figures = bench.measure(system, num_waiting, seconds, rate)
    return SchedulerRow(
        f"actor at {name} rate",
        _engines(system),
        num_waiting,
        assignments_per_s_limit=0.95 * rate.turns_per_s,  # or the rate was not the one to measure at
        fetch_over_empty_p99_ratio=figures.fetch_p99_s / figures.empty_call_p99_s,
        fetch_over_empty_p99_ratio_limit=FETCH_OVER_EMPTY,
        cores_limit=CORES,
        assignments_per_cpu_s=figures.assignments_per_s / figures.cores,
        **asdict(figures),
    )


def _engines(system: tuple[int, int, int]) -> int:
    prefill, decode, gpus = system
    return (prefill + decode) * gpus


def table(result: dict[str, Any]) -> str:
    """The result in Markdown, each figure beside its limit."""
    lines = [
        "Measured: groups that only count, requests without tokens. A fetch beside an empty call to the same actor.",
        "",
        "| what | engines | waiting | assignments/s | at least | a CPU second | with reports | fetch p99 ms "
        "| empty call p99 ms | ratio | at most | calls/s | cores | at most |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in result["rows"]:
        cells = [
            r["name"],
            f"{r['num_engines']:,}",
            f"{r['num_waiting']:,}",
            f"{r['assignments_per_s']:,.0f}",
            _cell(r["assignments_per_s_limit"], ",.0f"),
            _cell(r["assignments_per_cpu_s"], ",.0f"),
            _cell(r["assignments_per_s_with_reports"], ",.0f"),
            f"{r['fetch_p99_s'] * 1e3:.2f}",
            _cell(r["empty_call_p99_s"] and r["empty_call_p99_s"] * 1e3, ".2f"),
            _cell(r["fetch_over_empty_p99_ratio"], ".2f"),
            _cell(r["fetch_over_empty_p99_ratio_limit"], ".0f"),
            _cell(r["calls_per_s"], ",.0f"),
            _cell(r["cores"], ".2f"),
            _cell(r["cores_limit"], ".0f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"no time for: {what}" for what in result["skipped"]]
    return "\n".join(lines) + "\n"


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
