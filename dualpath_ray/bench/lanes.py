"""``dualpath bench lanes``: the arbiter's speed, and the emulated NIC's rate beside its nominal one (section 5).

The arbiter decides by appendix A.1's tables, packet by packet and several at once. The NIC moves real bytes between two pools, in
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
_FULL, _LANES = 1 << 40, 4  # packets in each of the lanes


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
    for how, decide in (("packet by packet", _by_packet), ("turn by turn", _by_turn), ("in whole rounds", _by_rounds)):
        found = [_rate_of(decide, seconds / 4) for _ in range(rounds)]
        rows.append(LaneRow("arbiter", f"{how}, all lanes full", statistics.median(found), "packets/s", PACKETS_PER_S))
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


Decide = Callable[[Arbiter, list[int], list[int]], int]


def _rate_of(decide: Decide, seconds: float) -> float:
    """By the tables of appendix A.1."""
    arbiter, full, sizes = Arbiter(PAPER_TABLES), [_FULL] * _LANES, [PACKET_BYTES] * _LANES
    packets, began = 0, time.thread_time()
    while (took := time.thread_time() - began) < seconds:
        packets += decide(arbiter, full, sizes)
    return packets / took


def _by_packet(arbiter: Arbiter, full: list[int], sizes: list[int]) -> int:
    for _ in range(_ASKED):
        arbiter.next(sizes)
    return _ASKED


def _by_turn(arbiter: Arbiter, full: list[int], sizes: list[int]) -> int:
    packets = 0
    while packets < _ASKED:
        run = arbiter.next_run(full, sizes, _ASKED)
        assert run is not None
        packets += run[1]
    return packets


def _by_rounds(arbiter: Arbiter, full: list[int], sizes: list[int]) -> int:
    packets = 0
    while packets < _ASKED:
        rounds = arbiter.next_rounds(full, sizes, _ASKED)
        run = None if rounds else arbiter.next_run(full, sizes, _ASKED)
        packets += sum(sent for _, sent in rounds) + (run[1] if run else 0)
    return packets
