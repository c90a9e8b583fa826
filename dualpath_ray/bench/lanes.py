"""``dualpath bench lanes``: the arbiter's speed, and the emulated NIC's rate beside its nominal one (section 5).

The arbiter decides packet by packet and in runs, by appendix A.1's tables. The NIC moves real bytes between two pools, in
one lane and in two, each direction on its own; what that costs is the CPU time of the loop that keeps the schedule, and of
those who copy.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualpath_ray.base.lanes import PACKET_BYTES, Lanes
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.units import bytes_per_s, parse_bps
from dualpath_ray.base.vl_tables import PAPER_TABLES
from dualpath_ray.bench.nic_driver import Moved, NicDriver
from dualpath_ray.bench.result import write_result
from dualpath_ray.config.fabric import CnicLanes
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.traffic.arbiter import Arbiter
from dualpath_ray.traffic.nic import Direction

RATES = ("200 MB/s", "2 GB/s")
PACKETS_PER_S = 500_000  # at least
OFF = 0.01  # of the nominal rate, at most
MODEL, URGENT, KV = TrafficClass.MODEL_EXECUTION, TrafficClass.KV_URGENT, TrafficClass.KV_CACHE
_ASKED = 10_000  # packets, between two looks at the clock
_FULL = 1 << 40  # packets


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One figure, the median of its rounds, and what it should be at least and at most."""

    name: str
    setting: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What is put on the NIC at once, as shares of its bytes: as long as both parts last, both lanes are full."""

    name: str
    lanes: Lanes
    parts: tuple[tuple[TrafficClass, float], ...]


LOADS = (
    Load("one lane", CnicLanes().lanes, ((KV, 1.0),)),
    Load("a high and a low lane", CnicLanes().lanes, ((URGENT, 0.95), (KV, 0.05))),
    Load("two equal lanes", CnicLanes(service_levels={MODEL: 0, URGENT: 1, KV: 3}).lanes, ((URGENT, 0.5), (KV, 0.5))),
)


def run(rates: Sequence[str], seconds: float, rounds: int, out: Path, echo: Callable[[str], None]) -> dict[str, Any]:
    """Run the benchmark and write ``lanes.json``.

    Args:   rates: of the NIC, such as 2 GB/s; seconds: of a measurement.
    Raises: ConfigError when ``out`` cannot be written or /dev/shm is full.
    """
    make_out(out)
    rows: list[LaneRow] = []

    def add(more: Sequence[LaneRow]) -> None:
        rows.extend(more)
        for row in more:
            echo(said(row))

    add(arbiter_rows(seconds, rounds))
    for rate in rates:
        for load in LOADS:
            for direction in Direction:
                setting = f"{rate} {direction}, {load.name}"
                add(nic_rows(setting, bytes_per_s(parse_bps(rate)), _measure(rate, load, direction, seconds, rounds)))
    found = {"seconds": seconds, "rounds": rounds, "rows": [asdict(row) for row in rows]}
    write_result(out / "lanes.json", found)
    return found


def said(row: LaneRow) -> str:
    value = f"{row.value:.3f}" if row.value < 100 else f"{row.value:,.0f}"
    bounds = [f"{word} {bound:,.0f}" for word, bound in (("at least", row.at_least), ("at most", row.at_most)) if bound]
    return f"{row.name}, {row.setting}: {value} {row.unit}" + (f" ({', '.join(bounds)})" if bounds else "")


def arbiter_rows(seconds: float, rounds: int) -> list[LaneRow]:
    """Packets of 4 KiB that are decided in a CPU second."""
    rows = []
    for lanes, setting in (((0, 1, 2, 3), "all lanes full"), ((0, 2), "a high and a low lane full")):
        for name, decide, least in (
            ("arbiter, in runs", _decide_runs, PACKETS_PER_S),
            ("arbiter, packet by packet", _decide_packets, None),
        ):
            found = [_rate_of(decide, lanes, seconds / 4) for _ in range(rounds)]
            rows.append(LaneRow(name, setting, statistics.median(found), "packets/s", least))
    return rows


def nic_rows(setting: str, nominal: float, moved: Sequence[Moved]) -> list[LaneRow]:
    """Args: nominal: bytes per second; moved: of each round. Pure."""

    def median(of: Callable[[Moved], float]) -> float:
        return statistics.median(map(of, moved))

    low, high = (1 - OFF) * nominal, (1 + OFF) * nominal
    return [
        LaneRow("NIC, its rate", setting, median(lambda one: one.nbytes / one.seconds), "B/s", low, high),
        LaneRow("NIC, its schedule", setting, median(lambda one: one.loop_cpu_s / one.seconds), "cores"),
        LaneRow("NIC, with copies", setting, median(lambda one: one.cpu_s / one.seconds), "cores"),
    ]


def _measure(rate: str, load: Load, direction: Direction, seconds: float, rounds: int) -> list[Moved]:
    nbytes = bytes_per_s(parse_bps(rate)) * seconds
    driver = NicDriver(bytes_per_s(parse_bps(rate)), load.lanes)
    try:
        return [driver.move(direction, [(c, int(share * nbytes)) for c, share in load.parts]) for _ in range(rounds)]
    finally:
        driver.close()


Decide = Callable[[Arbiter, list[int]], int]


def _rate_of(decide: Decide, lanes: Sequence[int], seconds: float) -> float:
    """Of the tables of appendix A.1, these lanes being full."""
    arbiter, full = Arbiter(PAPER_TABLES), [_FULL if lane in lanes else 0 for lane in range(4)]
    packets, began = 0, time.thread_time()
    while (took := time.thread_time() - began) < seconds:
        packets += decide(arbiter, full)
    return packets / took


def _decide_runs(arbiter: Arbiter, full: list[int]) -> int:
    sizes, packets = [PACKET_BYTES] * len(full), 0
    while packets < _ASKED:
        run = arbiter.next_run(full, sizes, _FULL)
        assert run is not None
        packets += run[1]
    return packets


def _decide_packets(arbiter: Arbiter, full: list[int]) -> int:
    heads = [PACKET_BYTES if waiting else 0 for waiting in full]
    for _ in range(_ASKED):
        arbiter.next(heads)
    return _ASKED
