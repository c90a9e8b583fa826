"""``dualpath simulate``: the files of a rollout, and mistakes in one sentence."""

import json

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cli.main import run
from dualpath_ray.observability.store import load_results
from dualpath_ray.planning.online import Online, poisson_arrivals

SMALL = """
prefill_nodes: 1
decode_nodes: 1
model: ds-27b
hardware: hopper
node: {pe_buffer_bytes: 80 GB, de_buffer_bytes: 80 GB}
engine: {max_batch_tokens: 16384}
scheduler: {compute_quota_s: 0.01}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def simulate(config, out, *flags):
    return run(["simulate", str(config), "--num-trajectories", "6", "--max-turns", "8", "--out", str(out), *flags])


def test_it_leaves_what_a_rollout_leaves(config, tmp_path, capsys):
    assert simulate(config, tmp_path / "out", "--compare", "basic,scheduled,oracle") == 0
    results = load_results(tmp_path / "out")
    assert results.summary["simulated"] is True
    assert [run["mode"] for run in results.summary["runs"]] == ["basic", "scheduled", "oracle"]
    assert results.summary["speedup_over_basic"] > 0
    assert {run["num_turns"] for run in results.summary["runs"]} == {48}
    assert results.requests.num_rows == 3 * 48
    assert results.summary["hit_tokens_equal"]
    assert (tmp_path / "out" / "report.html").is_file()
    assert "simulated 48 turns" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_files(config, tmp_path):
    for name in ("a", "b"):
        assert simulate(config, tmp_path / name) == 0
    first, second = (load_results(tmp_path / name) for name in ("a", "b"))
    assert first.requests.equals(second.requests)
    assert first.summary["runs"] == second.summary["runs"]


def test_agents_that_arrive(config, tmp_path, capsys):
    assert simulate(config, tmp_path / "out", "--aps", "0.5", "--duration", "60") == 0
    (online,) = json.loads((tmp_path / "out" / "summary.json").read_text())["online"]
    assert online["within_slo"] is True and online["num_turns"] > 0
    assert "within the SLO of 4 s and 50 ms" in capsys.readouterr().out


def test_arrivals_are_poisson_and_repeat():
    online = Online(2.0, 5000.0, 7)
    times = poisson_arrivals(online)
    assert times == poisson_arrivals(online) and times == sorted(times) and times[-1] <= 5000
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert poisson_arrivals(Online(2.0, 5000.0, 8)) != times


@pytest.mark.parametrize(
    ("change", "flags", "says"),
    [
        ("hardware: hopper", [], "hardware: this key is required here"),
        ("model: ds-27b", [], "small.yaml: model"),
        ("", ["--trace", "nowhere.jsonl"], "trace nowhere.jsonl: no such file"),
        ("", ["--aps", "0"], "--aps: 0.0 is no rate of arrivals"),
        ("", ["--aps", "inf"], "--aps: inf is no rate of arrivals"),
        ("", ["--duration", "60"], "--duration says how long agents arrive"),
        ("", ["--costs", "missing.yaml"], "missing.yaml: No such file"),
        ("", ["--compare", "nothing"], "--compare: there is no 'nothing'"),
        ("", ["--token-scale", "40"], "above the limit of"),
    ],
)
def test_mistakes_are_one_sentence(config, tmp_path, capsys, change, flags, says):
    if change.startswith("model"):
        config.write_text(SMALL.replace("ds-27b", "no-such-model"))
    elif change:
        config.write_text(SMALL.replace(change, ""))
    assert simulate(config, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "\n" not in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("decode_nodes: 1", "decode_nodes: 0", "decode_nodes"),
        ("model: ds-27b", "model: ds-660b", "leave no room"),
        ("node: {", "node: {snic_bps: 4000 Gbps, ", "snic_bps must stay below"),
        ("engine: {", "engine: {decode_shard_nodes: 2, ", "3 decode nodes are no multiple of 2"),
        ("engine: {", "engine: {hbm_kv_bytes: 1 MB, ", "too few for one request"),
        ("de_buffer_bytes: 80 GB", "de_buffer_bytes: 80 MB", "node.de_buffer_bytes: the buffer holds"),
    ],
)
def test_impossible_clusters_are_refused(config, tmp_path, capsys, before, after, says):
    text = SMALL.replace("decode_nodes: 1", "decode_nodes: 3") if "shard_nodes" in after else SMALL
    config.write_text(text.replace(before, after))
    assert simulate(config, tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert says in error and "small.yaml" in error and "\n" not in error


def test_a_broken_file_of_costs_names_file_and_key(config, tmp_path, capsys):
    costs = tmp_path / "costs.yaml"
    costs.write_text("prefill_flops_ratio: 2\n")
    assert simulate(config, tmp_path / "out", "--costs", str(costs)) == 2
    error = capsys.readouterr().err
    assert "costs.yaml" in error and "prefill_flops_ratio" in error


def test_config_error_is_what_is_raised():
    with pytest.raises(ConfigError, match="--duration"):
        Online(1.0, 0.0, 0)
