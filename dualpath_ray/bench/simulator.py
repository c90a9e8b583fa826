"""``dualpath bench simulator``: how long a simulated turn takes, from hundreds of agents to 48K on 1,152 GPUs.

Each size runs in a process of its own, so that its peak memory is its own; CPU time counts, so a busy machine does not.
"""

import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dualpath_ray.bench.result import write_result
from dualpath_ray.ops.results_dir import make_out

SMALL, LARGE = "ds660b_2p4d", "ds660b_48p96d"
SIZES = ((SMALL, 250), (SMALL, 500), (SMALL, 1000), (SMALL, 2000))
FULL = ((LARGE, 6_000), (LARGE, 12_000), (LARGE, 48_000))
# (seconds, GiB) at most, on one core: 2K agents on 2P4D, 48K agents on 48P96D.
LIMITS = {(SMALL, 2000): (60.0, 2.0), (LARGE, 48_000): (1200.0, 8.0)}


@dataclass(frozen=True, slots=True)
class SimulatorRow:
    """One run; limits stand where there are any."""

    name: str
    num_agents: int
    num_turns: int
    num_events: int
    jct_s: float  # simulated
    cpu_s: float
    wall_s: float
    us_per_turn: float  # of CPU
    us_per_event: float
    memory_peak_bytes: int
    cpu_s_limit: float | None = None
    memory_peak_bytes_limit: float | None = None


def measure(config_dir: Path, name: str, num_agents: int) -> SimulatorRow:
    """Simulate the 64K trace offline, in this process."""
    from dualpath_ray.planning.lab import Lab
    from dualpath_ray.simulator.run import Simulation

    lab = Lab(config_dir, lambda line: None)
    simulation = Simulation(lab.spec(name, "scheduled"), lab.trace("table2-64k"))
    started, cpu = time.perf_counter(), time.process_time()
    simulation.offline(num_agents)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    record = simulation.record("scheduled")
    limits = LIMITS.get((name, num_agents))
    turns, events = len(simulation.turns), simulation.loop.num_events
    return SimulatorRow(
        name,
        num_agents,
        turns,
        events,
        record.jct_s,
        cpu_s,
        wall_s,
        1e6 * cpu_s / turns,
        1e6 * cpu_s / events,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        limits[0] if limits else None,
        limits[1] * 2**30 if limits else None,
    )


def run(config_dir: Path, full: bool, out: Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """All sizes, one after the other; ``full`` adds those of 1,152 GPUs, over twenty minutes."""
    make_out(out)
    sizes: Sequence[tuple[str, int]] = SIZES + FULL if full else SIZES
    rows: list[SimulatorRow] = []
    for name, num_agents in sizes:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            row = pool.submit(measure, config_dir, name, num_agents).result()
        rows.append(row)
        echo(_said(row))
        result = {"rows": [asdict(each) for each in rows]}
        write_result(out / "simulator.json", result)
    return result


def _said(row: SimulatorRow) -> str:
    text = (
        f"{row.name}, {row.num_agents} agents: {row.num_turns} turns in {row.cpu_s:.0f} s of CPU, "
        f"{row.us_per_turn:.0f} us a turn, {row.us_per_event:.1f} us an event, {row.memory_peak_bytes / 2**30:.2f} GiB"
    )
    if row.cpu_s_limit is None or row.memory_peak_bytes_limit is None:
        return text
    return text + f" (at most {row.cpu_s_limit:.0f} s and {row.memory_peak_bytes_limit / 2**30:.0f} GiB)"
