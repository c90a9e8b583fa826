"""``dualpath bench metrics``: what exporting metrics costs, in CPU seconds a turn.

Pairs of runs, with metrics and without, interleaved and with their order swapped every time, on one Ray that collects
metrics and is scraped every ten seconds in both. Counted are all processes: actors, driver, and Ray's own, whose agent
takes what the others export.
"""

import os
import statistics
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from dualpath_ray.bench.overhead import WORKLOAD
from dualpath_ray.bench.result import write_result
from dualpath_ray.cluster.api import connect, start
from dualpath_ray.cluster.placement import RaySession, metrics_endpoints
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.ops.rollout import Prepared, prepare

OPTIONS: RolloutOptions = replace(WORKLOAD, read_path="scheduled")
# A state line is part of it: what an actor tells of itself costs this.
SETTINGS: dict[str, dict[str, Any]] = {
    "off": {"observability.metrics": False, "observability.state_line_s": 0},
    "on": {"observability.metrics": True},
}
CPU_BOUND = 1.02
SCRAPE_S = 10.0


def run(
    config: Path,
    num_pairs: int = 5,
    out: Path = Path("runs/bench-metrics"),
    echo: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the pairs and write ``metrics.json``.

    Raises: ConfigError naming file and key.
    """
    make_out(out)
    prepared = {name: prepare(config, OPTIONS, overrides) for name, overrides in SETTINGS.items()}
    pairs = []
    with _collecting_ray(prepared["on"].max_cpus):
        for number in range(num_pairs):
            names = list(SETTINGS) if number % 2 == 0 else list(SETTINGS)[::-1]
            pairs.append(_pair({name: _one_run(prepared[name]) for name in names}))
            echo(
                f"pair {number + 1}/{num_pairs}: CPU ratio {pairs[-1]['cpu_ratio']:.3f}, of the actors alone "
                f"{pairs[-1]['actors_cpu_ratio']:.3f}"
            )
    result = {
        "cpu_s_per_turn_ratio_median": statistics.median(p["cpu_ratio"] for p in pairs),
        "cpu_s_per_turn_ratio_bound": CPU_BOUND,
        "actors_cpu_s_per_turn_ratio_median": statistics.median(p["actors_cpu_ratio"] for p in pairs),
        "pairs": pairs,
    }
    write_result(out / "metrics.json", result)
    echo(
        f"metrics on / off, median of {num_pairs} pairs: CPU seconds a turn {result['cpu_s_per_turn_ratio_median']:.3f} "
        f"(bound {CPU_BOUND}), of the actors alone {result['actors_cpu_s_per_turn_ratio_median']:.3f}"
    )
    return result


@contextmanager
def _collecting_ray(cpus: float) -> Iterator[None]:
    """A private Ray that collects metrics, unlike that of a rollout; something fetches them now and then."""
    name = "RAY_enable_metrics_collection"
    before = os.environ.get(name)
    os.environ[name] = "1"
    session, over = RaySession(), threading.Event()
    try:
        session.open(None, cpus)
        scraper = threading.Thread(target=_scrape, args=(metrics_endpoints(), over), daemon=True)
        scraper.start()
        yield
    finally:
        over.set()
        session.close()
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _scrape(endpoints: list[str], over: threading.Event) -> None:
    while not over.wait(SCRAPE_S):
        for endpoint in endpoints:
            with suppress(OSError), urllib.request.urlopen(endpoint, timeout=SCRAPE_S) as answer:
                answer.read()


def _one_run(prepared: Prepared) -> tuple[RunRecord, float]:
    """A rollout on a system of its own, and the CPU seconds that all processes took for it."""
    (each,) = prepared.runs
    with start(each.plan) as system:
        client = connect(system)
        try:
            before = cpu_s_by_process()
            record = client.rollout(prepared.trajectories)
            after = cpu_s_by_process()
        finally:
            client.close()
    return record, sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def cpu_s_by_process() -> dict[int, float]:
    """CPU seconds so far of this process and of all that came of it, by process id."""
    me, found = psutil.Process(), {}
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def _pair(runs: dict[str, tuple[RunRecord, float]]) -> dict[str, float]:
    turns = {name: len(record.turns) for name, (record, _) in runs.items()}
    every = {name: cpu_s / turns[name] for name, (_, cpu_s) in runs.items()}
    actors = {name: record.cpu_s / turns[name] for name, (record, _) in runs.items()}
    return {
        "cpu_ratio": every["on"] / every["off"],
        "actors_cpu_ratio": actors["on"] / actors["off"],
        "on_cpu_s_per_turn": every["on"],
        "off_cpu_s_per_turn": every["off"],
        "on_jct_s": runs["on"][0].jct_s,
        "off_jct_s": runs["off"][0].jct_s,
    }
