"""The rows of `bench lanes`, and the bytes that its NIC moves."""

import json

import numpy as np
import pytest

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.bench.lanes import LOADS, LaneRow, arbiter_rows, nic_rows, run, said
from dualpath_ray.bench.nic_driver import LAYOUT, Moved, NicDriver
from dualpath_ray.traffic.nic import Direction

URGENT, KV = TrafficClass.KV_URGENT, TrafficClass.KV_CACHE


def test_a_rate_stands_between_its_bounds_and_is_the_median_of_its_rounds():
    moved = [Moved(1000, seconds, 0.1 * seconds, 0.5 * seconds) for seconds in (1.0, 1.25, 5.0)]
    rate, loop, copies = nic_rows("800 B/s in, one lane", 800.0, moved)
    assert (rate.value, rate.at_least, rate.at_most) == (800.0, 792.0, 808.0)
    assert (loop.value, loop.unit, copies.value) == (pytest.approx(0.1), "cores", pytest.approx(0.5))
    assert copies.at_least is None and copies.at_most is None


def test_each_way_to_ask_the_arbiter_stands_beside_the_bound():
    rows = arbiter_rows(1e-3, 1)
    assert [row.setting.split(",")[0] for row in rows] == ["packet by packet", "turn by turn", "in whole rounds"]
    assert all(row.at_least == 500_000 and row.value > 0 and row.unit == "packets/s" for row in rows)


def test_a_figure_is_a_line():
    row = LaneRow("NIC, its rate", "2 GB/s in, one lane", 1.99e9, "B/s", 1.98e9, 2.02e9)
    assert said(row) == (
        "NIC, its rate, 2 GB/s in, one lane: 1,990,000,000 B/s (at least 1,980,000,000, at most 2,020,000,000)"
    )
    assert said(LaneRow("NIC, its schedule", "2 GB/s in", 0.25, "cores")) == "NIC, its schedule, 2 GB/s in: 0.250 cores"


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_all_bytes_are_there_and_counted_and_no_sooner_than_the_rate_allows(direction, load):
    """64 MiB and some bytes, in two lanes where the load has two."""
    driver, rate = NicDriver(2e9, load.lanes), 2e9
    try:
        for pool, value in zip(driver.pools, (1, 2), strict=True):
            pool[:] = value
        source, target = driver.pools if direction is Direction.OUT else driver.pools[::-1]
        total = 64 * LAYOUT.full_block_bytes
        parts = [(c, int(share * total) + 13) for c, share in load.parts]
        moved = driver.move(direction, parts)
        assert moved.nbytes == sum(nbytes for _, nbytes in parts) and moved.seconds >= moved.nbytes / rate
        counters = driver.nic[direction].counters
        assert counters.bytes_by_class == {c: nbytes for c, nbytes in parts}
        first = LAYOUT.full_block_bytes
        assert np.array_equal(source[:first], target[:first])
        busy_s, done = driver.nic[direction].busy_until(1e12)
        assert done == moved.nbytes and busy_s == pytest.approx(done / rate)
    finally:
        driver.close()


def test_the_result_is_written(tmp_path):
    found = run(("2 GB/s",), 0.01, 1, tmp_path / "lanes", lambda line: None)
    written = json.loads((tmp_path / "lanes" / "lanes.json").read_text())
    assert written["rows"] == found["rows"] and len(found["rows"]) == 3 + 3 * len(LOADS) * len(Direction)
