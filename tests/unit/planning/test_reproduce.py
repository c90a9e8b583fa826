"""``dualpath reproduce``: every figure runs, and the report says what is calibrated, predicted and off."""

import json
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

from dualpath_ray.cli.main import run
from dualpath_ray.cli.reproduce import _NAMES
from dualpath_ray.planning import figures, lab, paper
from dualpath_ray.planning.experiments import EXPERIMENTS
from dualpath_ray.planning.figures import FIGURES
from dualpath_ray.planning.online import SLO_TTFT_S
from dualpath_ray.planning.reproduce_report import TITLES
from dualpath_ray.planning.rows import Row, verdict

ROOT = Path(__file__).parents[3]
CONFIGS, LIVE = str(ROOT / "cluster_configs"), str(ROOT / "docs/benchmarks/pool.json")


@pytest.fixture
def small(monkeypatch):
    """A few agents in place of thousands: what is tested is that the experiments run."""
    monkeypatch.setattr(figures, "AGENTS_660B", (2, 3))
    monkeypatch.setattr(figures, "AGENTS_27B", (2,))
    monkeypatch.setattr(figures, "AGENTS_TABLE_3", (2, 4))
    monkeypatch.setattr(figures, "START_APS", dict.fromkeys(figures.START_APS, 4.0))
    monkeypatch.setattr(figures, "CLOSE_ENOUGH", 4.0)
    monkeypatch.setattr(lab, "ONLINE_S", 40.0)
    monkeypatch.setattr(paper, "ONLINE_2P4D_APS", 0.1)
    monkeypatch.setattr(paper, "ONLINE_44P88D_APS", 0.1)


def test_every_name_of_the_command_is_a_figure():
    assert set(_NAMES) == {*FIGURES, "live"} == set(TITLES)


def test_all_figures_in_one_report(small, tmp_path):
    assert run(["reproduce", "all", "--config-dir", CONFIGS, "--live", LIVE, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["figure"] for row in rows} == set(TITLES)
    for row in rows:
        assert row["kind"] in ("calibrated", "predicted", "live")
        assert row["deviation"] == pytest.approx(row["ours"] / row["paper"] - 1)
    assert len({(row["figure"], row["name"]) for row in rows}) == len(rows)
    experiments = json.loads((tmp_path / "results.json").read_text())["experiments"]
    assert {each["figure"] for each in experiments} == set(EXPERIMENTS)
    for name in ("README.md", "index.html"):
        text = unescape((tmp_path / name).read_text())
        assert all(row["name"] in text for row in rows)
        assert all(each["question"] in text and each["answer"] in text for each in experiments)


def test_other_figures_of_an_earlier_report_are_kept(tmp_path):
    for name in ("table1", "table2"):
        assert run(["reproduce", name, "--config-dir", CONFIGS, "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert {row["figure"] for row in found["rows"]} == {"table1", "table2"}
    assert {each["figure"] for each in found["experiments"]} == {"table1"}


@pytest.mark.parametrize("limit", (0.01, 0.2, 0.37, 3.0))
def test_the_highest_rate_is_found_wherever_it_lies(limit):
    class Curve:
        """TTFT grows with the rate and passes the SLO at ``limit``."""

        asked: ClassVar[list[float]] = []

        def online(self, config, mode, rate, cnic_share):
            self.asked.append(rate)
            return {"ttft_s": SLO_TTFT_S * rate / limit, "tpot_s": 0.01}

    curve = Curve()
    found = figures.sustained(curve, figures.DS660B, "basic")
    assert found == pytest.approx(limit, rel=0.01)
    assert len(curve.asked) < 20


def test_a_system_that_serves_nobody_sustains_next_to_nothing():
    class Dead:
        def online(self, config, mode, rate, cnic_share):
            return {"ttft_s": float("nan"), "tpot_s": float("nan")}

    assert 0 < figures.sustained(Dead(), figures.DS660B, "basic") < 1e-3


def test_table_2_is_matched_by_the_generator(tmp_path):
    assert run(["reproduce", "table2", "--config-dir", CONFIGS, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert len(rows) == 15 and all(abs(row["deviation"]) < 0.02 for row in rows)


def test_a_missing_configuration_is_one_sentence(tmp_path, capsys):
    assert run(["reproduce", "fig13", "--config-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert "ds660b_2p4d.yaml" in error and "\n" not in error


def test_only_predictions_can_be_off():
    rows = [
        Row("f", "a", 1.0, 1.2, "predicted"),
        Row("f", "b", 1.0, 1.05, "predicted"),
        Row("f", "c", 1.0, 9.0, "calibrated"),
    ]
    assert [row.is_off for row in rows] == [True, False, False]
    assert verdict(rows) == "1 of 2 predicted numbers are within 10% of the paper's; 1 (50%) are not."


def test_live_rows_come_from_the_benchmark(tmp_path, capsys):
    measured = {("1P1D", "scheduled"): 50.0, ("1P1D", "prefill_only"): 102.0}
    measured |= {("2P1D", "prefill_only"): 40.0, ("1P2D", "prefill_only"): 100.0}
    rows = [{"config": c, "mode": m, "snic_bps": 5, "jct_s": jct_s} for (c, m), jct_s in measured.items()]
    rows.append({"config": "1P1D", "mode": "scheduled", "snic_bps": 9, "jct_s": 1.0})  # of the sweep
    path = tmp_path / "pool.json"
    path.write_text(json.dumps({"rows": rows}))
    out = ["--out", str(tmp_path / "out")]
    assert run(["reproduce", "live", "--live", str(path), *out]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert [row["ours"] for row in found] == [1.25, 1.02] and {row["kind"] for row in found} == {"live"}
    path.write_text("{}")
    for given, said in ((path, "is no pool.json"), (tmp_path / "none.json", "cannot be read")):
        assert run(["reproduce", "live", "--live", str(given), *out]) == 2
        error = capsys.readouterr().err.strip()
        assert "--live" in error and said in error and "\n" not in error


def test_balance_within_windows():
    """One node reads 10 a second for 2 s and 10 within the sixth, the other 20 within the second."""
    spans = {"a": [(0.0, 2.0, 20), (5.0, 6.0, 10)], "b": [(1.0, 2.0, 20)], "c": []}
    record = SimpleNamespace(jct_s=10.0, read_spans=spans)
    assert lab._in_windows(record, 1.0) == pytest.approx((3 + 3 * 20 / 30 + 3) / 3)
    assert lab._in_windows(record, 10.0) == pytest.approx(3 * 30 / 50)
    assert lab._in_windows(SimpleNamespace(jct_s=1.0, read_spans={"a": [], "b": []}), 1.0) == 1.0
