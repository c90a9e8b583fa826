"""Model execution and KV on one emulated compute NIC, the system whole: by the NIC's schedule, whatever the machine does."""

import pytest

from dualpath_ray.bench.isolation import LANES, ONE_LANE, run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_kv_in_its_own_lane_does_not_slow_collectives_and_in_theirs_it_does(tmp_path):
    # Threads that wake up late add to single windows: a ratio is the median of pairs.
    found = run(["timed-4l-5ms"], 5, 2.0, tmp_path / "isolation", lambda line: None)
    on_nic = {row["setting"]: row for row in found["rows"] if "on the NIC" in row["name"]}
    kv = {row["setting"]: row["value"] for row in found["rows"] if "KV throughput" in row["name"]}
    assert on_nic[f"KV, {LANES}"]["over_no_kv"] <= 1.02
    assert on_nic[f"KV, {ONE_LANE}"]["over_no_kv"] > 1.05
    for lanes in (LANES, ONE_LANE):
        assert kv[f"no KV, {lanes}"] == 0 and kv[f"KV, {lanes}"] > 0
