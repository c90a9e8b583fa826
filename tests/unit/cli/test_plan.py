"""``dualpath plan`` on the command line: what it hands on, prints and leaves behind."""

import json
from xml.etree import ElementTree

import pytest

from dualpath_ray.cli.main import run

SYSTEM = """
prefill_nodes: 1
decode_nodes: 1
model: ds-27b
hardware: hopper
node: {gpus: 1, snic_bps: 4 Gbps, pe_buffer_bytes: 80 GB, de_buffer_bytes: 80 GB}
engine: {max_batch_tokens: 16384}
scheduler: {compute_quota_s: 0.01}
"""
SHORT = ["--trace", "table2-32k", "--num-trajectories", "30", "--max-turns", "6"]


def plan(tmp_path, *flags):
    config = tmp_path / "system.yaml"
    config.write_text(SYSTEM)
    return run(["plan", str(config), *SHORT, "--out", str(tmp_path / "out"), *flags])


def test_a_table_a_sentence_and_two_files(tmp_path, capsys):
    assert plan(tmp_path) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[-2].startswith("Use 1P1D: it sustains ") and lines[-1].startswith("plan (simulated): ")
    assert "1P1D: dual path simulated" in said.err
    result = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert result["decision"].replace("×", "x") == lines[-2] and result["simulated"] is True
    assert result["slo"] == {"ttft_s": 4.0, "tpot_s": 0.05} and len(result["splits"]) == 1
    svg = ElementTree.fromstring((tmp_path / "out" / "plan.svg").read_text("utf-8"))
    assert "Use 1P1D: " in "".join(svg.itertext()) and "(simulated)" in "".join(svg.itertext())


def test_json_alone_on_standard_output(tmp_path, capsys):
    assert plan(tmp_path, "--offline", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["objective"], result["unit"], result["num_agents"]) == ("offline", "s", 30)
    assert result["splits"][0]["scheduled"]["value"] > 0


def test_what_cannot_be_done_exits_with_1(tmp_path, capsys):
    assert plan(tmp_path, "--slo-tpot", "0.001") == 1
    assert "No split of 2 nodes keeps mean TTFT 4.00 s and TPOT 1.0 ms: " in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["split"] is None
    assert plan(tmp_path, "--aps", "1000") == 1
    assert "No split of 2 nodes sustains 1000 agents/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--nodes", "1"], "--nodes: 1 is too few"),
        (["--offline", "--slo-ttft", "3"], "--offline and an SLO contradict"),
        (["--aps", "-1"], "--aps: -1 is no rate"),
        (["--gen-tokens", "5", "--max-gen", "4"], "--gen-tokens 5 is above --max-gen 4"),
        (["--trace", "none.jsonl"], "trace none.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, flags, says):
    assert plan(tmp_path, *flags) == 2
    said = capsys.readouterr()
    assert said.out == "" and says in said.err and said.err.count("\n") == 1


def test_an_out_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert plan(tmp_path) == 2
    assert "--out: " in capsys.readouterr().err
