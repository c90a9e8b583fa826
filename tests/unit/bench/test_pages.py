"""The page of tables is what the committed results say."""

import json
from pathlib import Path

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.pages import page
from dualpath_ray.cli.main import run

DOCS = Path(__file__).parents[3] / "docs"
ABOUT = {"command": "dualpath bench x", "versions": {"cores": "2", "device": "a CPU", "python": "3.11"}}


def test_the_committed_page_is_that_of_the_committed_results():
    assert (DOCS / "benchmarks.md").read_text() == page(DOCS / "benchmarks")


def test_figures_words_and_gaps(tmp_path):
    rows = [{"name": "a|b", "bytes_per_s": 12345.6, "count": 7, "ok": True, "none": None, "limit": None}]
    rows.append({"name": "c", "bytes_per_s": 0.12345, "count": 1234567, "ok": False, "none": None, "limit": 2.0})
    (tmp_path / "x.json").write_text(json.dumps({**ABOUT, "gpu": "an H100", "rows": rows, "skipped": ["y: no y here"]}))
    text = page(tmp_path)
    assert "`dualpath bench x` on 2 cores of a CPU, an H100, Python 3.11." in text
    assert "| name | bytes per s | count | ok | limit |" in text
    assert "| a/b | 12,346 | 7 | yes |  |" in text and "| c | 0.123 | 1,234,567 | no | 2 |" in text
    assert "Not measured: y: no y here" in text and "none" not in text


def test_what_is_no_result_is_named(tmp_path, capsys):
    with pytest.raises(ConfigError, match="there is no result"):
        page(tmp_path)
    (tmp_path / "x.json").write_text("{}")
    assert run(["bench", "tables", "--results", str(tmp_path)]) == 2
    assert f"{tmp_path / 'x.json'}: it is no result of a benchmark" in capsys.readouterr().err
