"""What a rollout writes, and what it says when it cannot."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.result import write_result
from dualpath_ray.observability.run_record import Comparison, RunRecord
from dualpath_ray.ops import rollout
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.results_dir import make_out, writing_to
from dualpath_ray.ops.results_place import ResultsPlace
from dualpath_ray.ops.rollout import Prepared, PreparedRun, execute, write_all


def record(mode: str) -> RunRecord:
    return RunRecord(mode, "scheduled", True, True, False, 1, 1, 10.0, 12.0, decisions=[{"seq": 1, "mode": mode}])


def test_runs_before_a_failure_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(model_dump_json=lambda: "{}", block_tokens=16)
    runs = [PreparedRun(mode, None) for mode in ("prefill_only", "scheduled")]
    prepared = Prepared(runs, [], config, 512)
    monkeypatch.setattr(rollout, "statistics", lambda *args: {})

    def run_all(prepared, options, echo, keep, live, checkpoint):
        keep([record("prefill_only")])
        raise ConfigError("the second run fails")

    monkeypatch.setattr(rollout, "run_all", run_all)
    with pytest.raises(ConfigError, match="the second run fails"):
        execute(prepared, RolloutOptions(), ResultsPlace(str(tmp_path)), lambda line: None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [run["mode"] for run in summary["runs"]] == ["prefill_only"]
    assert json.loads((tmp_path / "decisions.jsonl").read_text()) == {"seq": 1, "mode": "prefill_only"}


def test_everything_a_rollout_leaves(tmp_path: Path) -> None:
    write_all(tmp_path / "out", Comparison("dualpath", [record("scheduled")]))
    names = "config.yaml decisions.jsonl figure.svg nic_samples.parquet report.html requests.parquet summary.json versions.json"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names.split()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=rf"^--out: {tmp_path} cannot be written: No space left on device"),
        writing_to(tmp_path),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(ConfigError, match="--out: /dev/full/x cannot be written"):
        make_out(Path("/dev/full/x"))
    with pytest.raises(ConfigError, match="--out: /dev cannot be written: No space left"):
        write_result(Path("/dev/full"), {"a": 1})
