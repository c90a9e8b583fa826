"""``dualpath bench transport`` from end to end, with few bytes."""

import json
from pathlib import Path

import pytest

from dualpath_ray.bench.transport import LIMIT, TRANSPORTS
from dualpath_ray.bench.transport_ray import COLLECTIVE, COMPILED_GRAPH, OBJECT_STORE
from dualpath_ray.cli.main import run

pytestmark = pytest.mark.ray
FIELDS = {
    "name",
    "block_bytes",
    "bytes_per_s",
    "limit_name",
    "limit_bytes_per_s",
    "ratio_to_limit",
    "cpu_s_per_gb",
    "latency_s",
    "ratio_at_least",
}


def test_every_way_is_measured_or_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--block-sizes", "16 KiB", "--total", "1 MiB", "--rounds", "1", "--out", str(tmp_path), "--json"]
    assert run(["bench", "transport", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "transport.json").read_text())["rows"] == found["rows"]
    for row in found["rows"]:
        assert set(row) == FIELDS and row["block_bytes"] == 16384
        assert row["bytes_per_s"] > 0 and row["ratio_to_limit"] > 0 and row["cpu_s_per_gb"] > 0
    names = {row["name"] for row in found["rows"]}
    missing = {reason.partition(": ")[0] for reason in found["skipped"]}
    ours = {f"{name}, {way}" for name in TRANSPORTS for way in ("read", "write") if name not in missing}
    assert {LIMIT, OBJECT_STORE, COMPILED_GRAPH, COLLECTIVE} | ours <= names
    assert all(row["idle_cores"] >= 0 for row in found["idle"])
    assert {"shared_memory", "sockets", COLLECTIVE} <= {row["name"] for row in found["idle"]}
