"""``dualpath calibrate``: from runs whose costs are known, costs are found that predict other runs."""

import json
from dataclasses import replace

import pytest
import yaml

from dualpath_ray.cli.main import run
from dualpath_ray.config.costs import FittedCosts, load_costs
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.observability.run_record import Comparison
from dualpath_ray.observability.store import write_results
from dualpath_ray.observability.summary import summarize
from dualpath_ray.planning.live_run import join_repeats, load_live_runs, turn_gap_s
from dualpath_ray.planning.simulate import simulate
from dualpath_ray.simulator.build import cluster_spec, typical_turn
from dualpath_ray.workload.trajectory import TrajectoryLengths

TRUE = FittedCosts.model_validate(
    {
        "model": "smollm2-135m",
        "fitted_to": "nothing: it is the truth",
        "cores": 2,
        "prompt_tokens_per_s": 2000.0,
        "prefill": {"batch_s": 0.03, "request_s": 0.01, "token_s": 0.003, "s_per_attention_flop": 2e-11},
        "decode": {"step_s": 0.05, "sequence_s": 0.02, "context_s": 1e-6},
        "delays": {"submit_s": 0.01, "read_s": 0.02, "hand_over_s": 0.01, "turn_s": 0.005},
    }
)
WORKLOAD = [TrajectoryLengths(f"t{i}", tuple((40 + 7 * i + 3 * k, 4, 0.0) for k in range(5))) for i in range(4)]


def results(directory, nodes, snic, modes=("prefill_only", "scheduled")):
    """What a rollout on a machine with the true costs would have left."""
    data = {
        "prefill_nodes": nodes[0],
        "decode_nodes": nodes[1],
        "model": "smollm2-135m",
        "block_tokens": 16,
        "node": {"snic_bps": snic, "cnic_bps": "100 MB/s"},
    }
    runs = []
    for mode in modes:
        config = parse_cluster(data, "x", mode_overrides(mode))
        runs.append(simulate(cluster_spec(config, "x", typical_turn(WORKLOAD), TRUE), WORKLOAD, len(WORKLOAD), mode))
    runs[0].profile = {"prompt_tokens_per_s": 2000.0, "read_bytes_per_s": 0.0}
    comparison = Comparison("dualpath rollout", runs, config=data, versions={"cores": "2"})
    write_results(directory, comparison, summarize(comparison))
    return directory


def test_it_predicts_systems_that_it_was_not_fitted_to(tmp_path, capsys):
    fitted = results(tmp_path / "fitted", (1, 1), "8 MB/s")
    storage_bound = results(tmp_path / "slow", (1, 2), "2 MB/s")
    compute_bound = results(tmp_path / "fast", (2, 1), "90 MB/s")
    out = tmp_path / "costs.yaml"
    predict = ["--predict", str(storage_bound), "--predict", str(compute_bound)]
    assert run(["calibrate", str(fitted), *predict, "--out", str(out), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["kind"] for row in rows] == ["fitted"] * 2 + ["predicted"] * 4
    for row in rows:
        assert abs(row["jct_error"]) < 0.05 and abs(row["ttft_p50_error"]) < 0.1, row
    costs = load_costs(out)
    assert isinstance(costs, FittedCosts)
    assert costs.delays.turn_s == pytest.approx(0.005) and costs.delays.submit_s == pytest.approx(0.01, abs=0.005)


def test_repeats_of_a_run_are_one_run(tmp_path):
    """All turns and the mean of the completion times; a repeat's turns do not follow another's."""
    once, other, slow = (
        load_live_runs(results(tmp_path / name / "same", (1, 1), snic))
        for name, snic in (("a", "8 MB/s"), ("b", "4 MB/s"), ("c", "2 MB/s"))
    )
    again = [replace(run, config=first.config) for run, first in zip(other, once, strict=True)]  # took longer there
    runs = [*once, *again]
    assert join_repeats([*once, *slow]) == [*once, *slow]  # of one name, but not the same system
    joined = join_repeats(runs)
    assert [run.name for run in joined] == ["same prefill_only", "same scheduled"]
    for both, first, second in zip(joined, runs[:2], runs[2:], strict=True):
        assert both.jct_s == pytest.approx((first.jct_s + second.jct_s) / 2)
        assert len(both.turns["submit_s"]) == len(first.turns["submit_s"]) + len(second.turns["submit_s"])
        assert sorted(both.turns["ttft_s"]) == sorted([*first.turns["ttft_s"], *second.turns["ttft_s"]])
    assert turn_gap_s(joined) == pytest.approx(TRUE.delays.turn_s)
    assert join_repeats(runs[:2]) == runs[:2]


def test_its_file_is_taken_by_simulate(tmp_path):
    config, costs = tmp_path / "c.yaml", tmp_path / "costs.yaml"
    config.write_text(
        "prefill_nodes: 1\ndecode_nodes: 1\nmodel: smollm2-135m\nnode: {snic_bps: 6 MB/s, cnic_bps: 60 MB/s}"
    )
    costs.write_text(yaml.safe_dump(TRUE.model_dump(exclude_none=True)))
    flags = ["--trace", "table2-32k", "--token-scale", "0.05", "--max-turns", "5", "--num-trajectories", "4"]
    assert run(["simulate", str(config), "--costs", str(costs), *flags, "--out", str(tmp_path / "out")]) == 0


def test_mistakes_are_one_sentence(tmp_path, capsys):
    assert run(["calibrate", str(tmp_path / "nothing")]) == 2
    assert "summary.json is missing" in capsys.readouterr().err
    fitted = results(tmp_path / "fitted", (1, 1), "8 MB/s")
    other = results(tmp_path / "other", (1, 1), "4 MB/s")
    (other / "versions.json").write_text(json.dumps({"cores": "16"}))
    assert run(["calibrate", str(fitted), "--predict", str(other), "--out", str(tmp_path / "costs.yaml")]) == 2
    error = capsys.readouterr().err.strip()
    assert "on 16 cores" in error and "of one model on one machine" in error and "\n" not in error
    summary = json.loads((fitted / "summary.json").read_text())
    (fitted / "summary.json").write_text(json.dumps({**summary, "profile": {}}))
    assert run(["calibrate", str(fitted)]) == 2
    assert "summary.json: profile.prompt_tokens_per_s is missing" in capsys.readouterr().err
    (fitted / "summary.json").write_text(json.dumps({**summary, "simulated": True}))
    assert run(["calibrate", str(fitted)]) == 2
    assert "these results are simulated" in capsys.readouterr().err


def test_costs_of_another_model_are_refused(tmp_path, capsys):
    config, costs = tmp_path / "c.yaml", tmp_path / "costs.yaml"
    config.write_text("prefill_nodes: 1\ndecode_nodes: 1\nmodel: ds-27b\nhardware: hopper")
    costs.write_text(yaml.safe_dump(TRUE.model_dump(exclude_none=True)))
    assert run(["simulate", str(config), "--costs", str(costs), "--out", str(tmp_path / "out")]) == 2
    assert "--costs: they were fitted to smollm2-135m" in capsys.readouterr().err
