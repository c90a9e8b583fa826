"""The result files: what is written is read back, whole or not at all."""

from dataclasses import asdict, fields

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.run_record import Comparison, TurnRecord
from dualpath_ray.observability.store import load_results, table_schema, write_results
from dualpath_ray.observability.summary import json_clean, summarize


@pytest.fixture
def written(tmp_path, made_comparison):
    comparison = made_comparison()
    summary = summarize(comparison)
    write_results(tmp_path / "a" / "b", comparison, summary, report="<!doctype html>")
    return tmp_path / "a" / "b", comparison, summary


def test_round_trip(written):
    directory, comparison, summary = written
    results = load_results(directory)
    assert results.summary == json_clean(summary)
    assert results.config == comparison.config and results.versions == comparison.versions
    turns = [{"run": i, "mode": r.mode, **asdict(t)} for i, r in enumerate(comparison.runs) for t in r.turns]
    assert results.requests.to_pylist() == turns
    samples = [{"run": i, "mode": r.mode, **asdict(s)} for i, r in enumerate(comparison.runs) for s in r.samples]
    assert results.nic_samples.to_pylist() == samples


def test_files_are_those_named_and_no_other(written):
    directory, comparison, _ = written
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "decisions.jsonl",
        "summary.json",
        "requests.parquet",
        "nic_samples.parquet",
        "config.yaml",
        "versions.json",
        "report.html",
    }
    assert (directory / "config.yaml").read_text().startswith(f"# {comparison.command}\n")


def test_columns_are_the_fields_of_a_turn(written):
    assert table_schema(TurnRecord).names == ["run", "mode", *[f.name for f in fields(TurnRecord)]]


def test_a_comparison_without_runs_has_empty_tables(tmp_path):
    comparison = Comparison(command="", runs=[])
    write_results(tmp_path, comparison, summarize(comparison))
    results = load_results(tmp_path)
    assert results.requests.num_rows == 0 and results.requests.schema == table_schema(TurnRecord)


@pytest.mark.parametrize("name", ["summary.json", "requests.parquet", "config.yaml"])
def test_a_missing_file_is_named(written, name):
    directory, _, _ = written
    (directory / name).unlink()
    with pytest.raises(ConfigError, match=name):
        load_results(directory)


@pytest.mark.parametrize("name", ["summary.json", "requests.parquet", "config.yaml"])
def test_a_damaged_file_is_one_sentence(written, name):
    directory, _, _ = written
    (directory / name).write_bytes(b"{ not this")
    with pytest.raises(ConfigError, match="damaged"):
        load_results(directory)
