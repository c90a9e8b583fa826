"""Reading traces that were made here, the broken ones above all."""

import gzip
import json
from pathlib import Path

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload.formats import read_trace
from dualpath_ray.workload.hash_runs import expand, shared_blocks


def read(path: Path):
    name, trajectories = read_trace(path, encode=lambda text: list(text.encode()), vocab_size=1000, seed=3)
    return name, list(trajectories)


def written(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_turns_with_and_without_delay(tmp_path):
    name, (a, b) = read(
        written(tmp_path, {"id": "a", "turns": [[5, 2], [0, 3]]}, "", {"id": "b", "turns": [[4, 1, 2.5, 9.0]]})
    )
    assert name == "turns"
    assert [(t.append_tokens, t.gen_tokens, t.tool_delay_s) for t in a.turns] == [(5, 2, 0.0), (1, 3, 0.0)]
    assert b.turns[0].tool_delay_s == 2.5
    assert a.total_tokens == a.max_context_tokens == 11 and a.append_tokens == 6
    assert all(16 <= i < 1000 for t in (*a.turns, *b.turns) for i in t.append_ids)


def test_ids_are_the_same_on_every_read_and_differ_between_turns(tmp_path):
    path = written(tmp_path, {"id": "a", "turns": [[50, 2], [50, 2]]})
    (first,), (again,) = read(path)[1], read(path)[1]
    assert first.turns[0].append_ids.tolist() == again.turns[0].append_ids.tolist()
    assert first.turns[0].append_ids.tolist() != first.turns[1].append_ids.tolist()


def test_a_session_is_cut_where_a_prompt_does_not_extend_the_one_before(tmp_path):
    def request(prompt: int, runs: list[list[int]], **more: object) -> dict:
        return {"type": "n", "in": prompt, "out": 4, "think_time": 1.0, "hash_runs": runs, **more}

    nested = {"type": "subagent", "agent_id": "helper", "requests": [request(64, [[1, 1]])]}
    session = [
        request(130, [[1, 3]]),
        request(200, [[1, 2], [9, 2]]),  # the partial third block was replaced: still the same segment
        request(70, [[1, 1], [40, 1]]),
        nested,
        nested,
    ]
    _, (first, second, helper, again) = read(written(tmp_path, {"id": "s", "block_size": 64, "requests": session}))
    names = [t.trajectory_id for t in (first, second, helper, again)]
    assert names == ["s#0", "s#1", "s/helper#0", "s/helper_2#0"]
    assert [t.append_tokens for t in first.turns] == [130, 200 - 134]
    assert second.append_tokens == 70
    assert second.turns[0].append_ids[:64].tolist() == first.turns[0].append_ids[:64].tolist()
    assert second.turns[0].append_ids[:64].tolist() == helper.turns[0].append_ids.tolist()


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["{"], "line 1: not JSON"),
        (["[1]"], "line 1: not a JSON object"),
        ([{"id": "a"}], "line 1: none of the keys"),
        ([{"id": "a", "turns": [[1, 1]]}, {"id": "b"}], "line 2: key 'turns' is missing"),
        ([{"id": "a", "turns": [[1]]}], "line 1: turn 0 must be"),
        ([{"id": "a", "turns": [[1, -1]]}], "line 1: gen of turn 0 must be"),
        ([{"id": "a", "turns": [[1, True]]}], "line 1: gen of turn 0 must be"),
        ([{"id": "a", "turns": [[1, 1, "soon"]]}], "line 1: a tool delay must be"),
        ([{"id": "a", "turns": []}], "line 1: trajectory a has no turn"),
        ([{"id": "a", "messages": [{"role": "user"}]}], "line 1: key 'content' is missing"),
        ([{"input_length": "x", "output_length": 1, "hash_ids": []}], "line 1: input_length must be"),
        ([{"id": "a", "requests": []}], "line 1: key 'block_size' is missing"),
        ([""], "the trace is empty"),
    ],
)
def test_a_broken_line_is_named(tmp_path, lines, problem):
    path = written(tmp_path, *lines)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(path) in str(error.value) and problem in str(error.value)


def test_a_cut_off_gzip_file_is_named(tmp_path):
    path = tmp_path / "trace.jsonl.gz"
    whole = gzip.compress(b"\n".join(json.dumps({"id": str(i), "turns": [[1, i + 1]]}).encode() for i in range(999)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="the gzip stream is broken"):
        read(path)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ConfigError, match="the gzip stream is broken"):
        read(path)


def test_shared_blocks_of_runs_is_that_of_their_expansion():
    a, b = [(1, 4), (9, 3)], [(1, 2), (3, 2), (9, 1), (20, 2)]
    expected = 0
    for x, y in zip(expand(a), expand(b), strict=False):
        if x != y:
            break
        expected += 1
    assert shared_blocks(a, b) == shared_blocks(b, a) == expected == 5
    assert shared_blocks([], b) == 0
