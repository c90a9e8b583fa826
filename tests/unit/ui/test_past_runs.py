"""Results of past runs, from directories of which some are other people's."""

import json
import os
from pathlib import Path

import pytest

from dualpath_ray.observability.summary import summarize
from dualpath_ray.ui.past_runs import past_runs, report_of


@pytest.fixture(name="summary")
def _summary(made_comparison) -> str:
    return json.dumps(summarize(made_comparison(1, 2)))


def write(folder: Path, name: str, text: str, at_s: float, report: str | None = None) -> None:
    (folder / name).mkdir(parents=True)
    path = folder / name / "summary.json"
    path.write_text(text)
    os.utime(path, (at_s, at_s))
    if report is not None:
        (folder / name / "report.html").write_text(report)


def test_a_row_for_every_run_the_newest_result_first(tmp_path, summary):
    write(tmp_path, "old", summary, 1000)
    write(tmp_path, "new", summary, 2000, "a report")
    rows = past_runs(tmp_path)
    assert [row["id"] for row in rows] == ["new/0", "new/1", "new/2", "old/0", "old/1", "old/2"]
    assert [row["mode"] for row in rows[:3]] == ["prefill_only", "scheduled", "oracle"]
    assert [row["report"] for row in rows] == [True] * 3 + [False] * 3
    first, told = rows[0], json.loads(summary)["runs"][0]
    assert first["shape"] == "1P2D" and first["numbers"]["jct_s"] == told["jct_s"]
    assert first["numbers"]["ttft_s"] == told["ttft_s"]["p50"]
    assert set(first["words"]) == set(first["numbers"]) and first["words"]["tokens_per_s"]


def test_numbers_that_cannot_be_said_are_a_dash(tmp_path, summary):
    told = json.loads(summary)
    told["runs"][0] |= {"ttft_s": None, "tokens_per_s": None, "snic_max_over_mean_ratio": None, "hit_ratio": None}
    write(tmp_path, "a", json.dumps(told), 1000)
    words = past_runs(tmp_path)[0]["words"]
    assert [words[key] for key in ("ttft_s", "tokens_per_s", "snic_max_over_mean_ratio", "hit_ratio")] == ["–"] * 4


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"runs": 3}', '{"runs": [{}]}', '{"runs": [null]}', '{"runs": ["x"]}']
)
def test_what_is_no_result_is_left_out(tmp_path, summary, text):
    write(tmp_path, "broken", text, 3000)
    write(tmp_path, "good", summary, 1000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    assert {row["result"] for row in past_runs(tmp_path)} == {"good"}


def test_there_may_be_no_directory(tmp_path):
    assert past_runs(tmp_path / "nothing") == [] and report_of(tmp_path / "nothing", "x") is None


def test_a_report_is_found_by_its_name_alone(tmp_path, summary):
    write(tmp_path / "runs", "a", summary, 1000, "a report")
    write(tmp_path, "outside", summary, 1000, "a secret")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    assert report_of(tmp_path / "runs", "a") == tmp_path / "runs" / "a" / "report.html"
    for name in ("../outside", "link", "..", ".", "", "a/", "a/report.html", str(tmp_path / "outside")):
        assert report_of(tmp_path / "runs", name) is None
    assert past_runs(tmp_path / "runs")[0]["result"] == "a" and len(past_runs(tmp_path / "runs")) == 3
