"""A whole plan: the decision, and every obstacle in one sentence that names it."""

import json
import re

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.planning.candidate import DUAL, SINGLE
from dualpath_ray.planning.online import Slo
from dualpath_ray.planning.options import SimulateOptions
from dualpath_ray.planning.plan import make_plan
from dualpath_ray.planning.plan_files import plan_json, plan_picture
from dualpath_ray.planning.plan_options import PlanOptions
from dualpath_ray.planning.plan_table import plan_table

SHORT = SimulateOptions(trace="table2-32k", num_trajectories=40, max_turns=10)
SLOW = {"gpus": 1, "snic_bps": "4 Gbps", "pe_buffer_bytes": "80 GB", "de_buffer_bytes": "80 GB"}


def planned(path, **options):
    asked = PlanOptions(**{"workload": SHORT, **options})
    return make_plan(path, asked, None, lambda line: None), asked


def test_the_split_to_use_and_what_dual_path_gains(write_config):
    plan, asked = planned(write_config(node=SLOW))
    assert [str(row.split) for row in plan.rows] == ["1P2D", "2P1D"]
    assert plan.works and plan.sentence.startswith(f"Use {plan.best.split}: it sustains ")
    single = plan.best.outcomes[SINGLE]
    assert 1.3 < plan.best.dual.value / single.value < 3.6  # NICs that read: 3 in place of 1 or 2
    assert single.busiest[0] == "PE SNIC" and single.busiest[1] > 0.9
    assert all(row.dual.value <= row.bound.value for row in plan.rows if row.dual)
    table = plan_table(plan.shown, plan.best.split, plan.online, plan.free)
    assert table.startswith("storage NICs are the first links to be full where P/D is ")
    assert "simulated" in table and f"*  {plan.best.split}" in table and table.isascii()
    assert "(simulated)" in plan.sentence and plan.title in plan_picture(plan, asked)
    assert json.loads(json.dumps(plan_json(plan, asked)))["split"] == str(plan.best.split)


def test_a_job_is_judged_by_its_end(write_config):
    plan, _ = planned(write_config(node=SLOW), offline=True)
    assert plan.works and "40 agents end after" in plan.sentence and "the busiest resource is" in plan.sentence
    assert plan.best.dual.value < plan.best.outcomes[SINGLE].value


def test_where_storage_does_not_bind_nothing_is_promised(write_config):
    plan, _ = planned(write_config(), nodes=2)
    assert plan.best.split.nodes == 2
    assert "no more than the single path does" in plan.sentence
    assert "storage NICs are not what binds here" in plan.sentence


def test_a_rate_that_is_asked_for(write_config):
    path = write_config(node=SLOW)
    most = planned(path)[0].best.dual.value
    enough, _ = planned(path, aps=most / 2)
    assert enough.works and "2.00× what is asked for" in enough.sentence
    short, _ = planned(path, aps=9.9 * most)
    assert not short.works
    assert short.sentence.startswith(f"No split of 3 nodes sustains {9.9 * most:g} agents/s")
    assert "about 30 nodes" in short.sentence


@pytest.mark.parametrize(
    ("slo", "says"),
    [
        (Slo(4.0, 0.002), r"TPOT 2\.0 ms: even on 1P2D a decode step of one sequence alone takes \d"),
        (
            Slo(0.01, 0.05),
            r"TTFT 10 ms and TPOT 50 ms: even on \dP\dD the first token of a turn that is alone takes \d",
        ),
    ],
)
def test_an_slo_that_no_split_can_keep_names_what_binds(write_config, slo, says):
    plan, asked = planned(write_config(), slo=slo)
    assert not plan.works and plan.best is None
    assert plan.sentence.startswith("No split of 3 nodes keeps mean ")
    assert re.search(says, plan.sentence)
    assert "cannot" in plan_table(plan.shown, None, True) and "No split" in plan_picture(plan, asked)
    assert plan_json(plan, asked)["split"] is None


def test_a_large_cluster_is_planned_from_small_ones(write_config):
    lines = []
    options = PlanOptions(workload=SHORT, nodes=24)
    very_slow = {**SLOW, "snic_bps": "0.6 Gbps"}
    plan = make_plan(write_config(node=very_slow), options, None, lines.append)
    assert len(plan.rows) == 23 and all(row.bound for row in plan.rows)
    assert 3 <= len(plan.shown) < 12 and plan.best in plan.shown
    assert any(", as 3 x " in line for line in lines)


def test_splits_that_do_not_fit_say_why(write_config):
    path = write_config(
        model="ds-660b", prefill_nodes=2, decode_nodes=2, scheduler={"compute_quota_s": 0.005}, node=None
    )
    plan, _ = planned(path, workload=SimulateOptions(trace="table2-32k", num_trajectories=20, max_turns=4))
    unfit = {str(row.split): row.unfit for row in plan.rows if row.unfit}
    assert set(unfit) == {"1P3D", "3P1D"}
    assert unfit["1P3D"].startswith("prefill_nodes: the ") and "more nodes are needed" in unfit["1P3D"]
    assert DUAL in plan.best.outcomes
    with pytest.raises(ConfigError, match=r"system\.yaml: (prefill|decode)_nodes: the .* leave no room"):
        planned(path, nodes=2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hardware": None}, r"system\.yaml: hardware: this key is required here"),
        ({"node": {"snic_bps": "3200 Gbps", "cnic_bps": "400 Gbps"}}, r"system\.yaml: .*snic_bps must stay below"),
        ({"decode_nodes": 0}, r"system\.yaml: decode_nodes"),
        ({"engine": {"hbm_kv_bytes": "1 MB"}}, r"system\.yaml: engine\.hbm_kv_bytes: a decode engine has HBM for"),
        ({"model": "ds-28b"}, r"system\.yaml: .*ds-28b"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(write_config, changes, says):
    with pytest.raises(ConfigError, match=says):
        planned(write_config(**changes))


@pytest.mark.parametrize("text", ["", '{"id": "a", "turns": []}\n', "{\n"])
def test_a_trace_without_a_turn_or_broken_is_refused(write_config, tmp_path, text):
    trace = tmp_path / "trace.jsonl"
    trace.write_text(text)
    with pytest.raises(ConfigError, match="trace"):
        planned(write_config(), workload=SimulateOptions(trace=str(trace)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"offline": True, "aps": 1.0}, "--offline and --aps contradict"),
        ({"aps": 0.0}, "--aps: 0 is no rate"),
        ({"aps": float("inf")}, "--aps: inf is no rate"),
        ({"slo": Slo(float("inf"), 0.05)}, "--slo-ttft: inf s is no time"),
        ({"slo": Slo(0.0, 0.05)}, "--slo-ttft: 0 s is no time"),
        ({"slo": Slo(4.0, -1.0)}, "--slo-tpot: -1 s is no time"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        PlanOptions(**options)
