"""``dualpath explain`` on decisions that the scheduler's core has taken."""

import json

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.cli.main import run
from dualpath_ray.ops.explain import explain
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.decision_log import to_record
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, GroupReport, NodeLoad, PrefillLoad, Request


def group(name, role, engines, read_queue=0, read_bytes=0):
    node = NodeLoad(name, read_queue, read_bytes, True, 10**6)
    return GroupReport(name, role, node, tuple(engines), 0)


@pytest.fixture
def records():
    """Six decisions of a system with an idle, a busy and an overloaded prefill engine."""
    core = SchedulerCore(FetchLimits(1000, 5000, token_bytes=2), load_policy("scheduled"))
    core.report(group("p0", Role.PREFILL, [PrefillLoad("p0/e0", 1, 100), PrefillLoad("p0/e1", 9, 6000)], 1500, 10))
    core.report(group("p1", Role.PREFILL, [PrefillLoad("p1/e0", 2, 200)], 40, 30))
    for name, tokens in (("d0", 700), ("d1", 20)):
        core.report(group(name, Role.DECODE, [DecodeLoad(f"{name}/e0", 1, tokens, 10**6)], 70, 20))
    core.submit(Request(f"ab-{i}", 1, f"t{i}", 300, 200, 4) for i in range(6))
    return [{**to_record(decision), "mode": "scheduled"} for decision in core.plan()]


@pytest.fixture
def results(records, tmp_path):
    assert len(records) == 6
    (tmp_path / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return tmp_path


def test_inputs_and_replay_are_shown(results, records, capsys):
    assert run(["explain", "ab-0", "--out", str(results)]) == 0
    text = capsys.readouterr().out
    first = records[0]
    assert "request ab-0, attempt 1: decision 1 of the run scheduled" in text
    assert "prompt 300 tokens, 200 of them a hit" in text and "d0 700, d1 20" in text
    assert "Z = 1.05 x mean tok_e = " in text
    assert "alpha = 1000" in text and "beta = 5000" in text
    lines = text.splitlines()

    def row(start):
        return next(line for line in lines if line.strip().startswith(start))

    assert "long queue (> alpha)" in row("p0/e0") and "overloaded (> beta)" in row("p0/e1")
    assert "short queue (<= alpha)" in row("p1/e0") and "<- chosen" in row("p1/e0")
    assert "<- chosen" in row(first["decode_engine"])
    assert f"read side {first['read_path']}, by scheduled: {first['reason']}" in text
    assert "40" in row("pe ") and "70" in row("de ") and "<- chosen" in row(f"{first['read_path']} ")
    assert lines[-1] == "replay: the same inputs give the same decision"


def test_every_decision_replays(results, records):
    for record in records:
        assert explain(record["request_id"], results).endswith("give the same decision")


def test_a_changed_record_does_not_replay(results, records):
    records[2]["read_path"] = "de" if records[2]["read_path"] == "pe" else "pe"
    (results / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert "the same inputs give ANOTHER decision: " in explain("ab-2", results)
    records[3]["inputs"]["limits"]["max_unfinished_tokens"] = 0
    (results / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert "replay: not possible: " in explain("ab-3", results)


def test_the_start_of_an_id_is_enough_when_it_is_unique(results, records):
    records[5]["request_id"] = records[5]["inputs"]["request"]["request_id"] = "cd-7"
    (results / "decisions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert explain("c", results) == explain("cd-7", results)
    with pytest.raises(ConfigError, match="request ab: 5 requests start so: ab-0, ab-1"):
        explain("ab", results)
    with pytest.raises(ConfigError, match=r"request x: not in .*, which has ab-0, .* and 1 more"):
        explain("x", results)


def test_every_attempt_is_shown(results, records):
    again = {**records[0], "attempt": 2}
    again["inputs"] = {**again["inputs"], "request": {**again["inputs"]["request"], "attempt": 2}}
    with (results / "decisions.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    text = explain("ab-0", results)
    assert "attempt 1" in text and "attempt 2" in text and text.count("replay: the same") == 2


def test_no_results_and_broken_ones_are_bad_input(results, capsys):
    assert run(["explain", "ab-0", "--out", str(results / "none")]) == 2
    assert "run `dualpath rollout` first" in capsys.readouterr().err
    with (results / "decisions.jsonl").open("a") as file:
        file.write('{"seq": 7}\n')
    assert run(["explain", "ab-0", "--out", str(results)]) == 2
    assert "line 7 is no decision" in capsys.readouterr().err
