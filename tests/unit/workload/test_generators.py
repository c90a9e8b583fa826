"""Generated workloads: Table 2 and the code-reading agent."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload import code_reading, synthetic
from dualpath_ray.workload.load import load_workload, statistics
from dualpath_ray.workload.stdlib_text import StandardLibrary


def words(text: str) -> list[int]:
    return [16 + byte for byte in text.encode()]


@pytest.mark.parametrize("name", synthetic.TABLE_2)
@pytest.mark.parametrize("seed", [0, 1])
def test_means_of_500_are_those_of_table_2(name, seed):
    shape = synthetic.TABLE_2[name]
    found = statistics(synthetic.generate(shape, num_trajectories=500, seed=seed, vocab_size=49152))
    assert found["turns"] == pytest.approx(shape.turns, rel=0.03)
    assert found["total"] == pytest.approx(shape.total, rel=0.03)
    assert found["mean_context"] == pytest.approx(shape.mean_context, rel=0.03)
    assert found["append_per_trajectory"] == pytest.approx(shape.append, rel=0.10)
    assert found["gen_per_trajectory"] == pytest.approx(shape.gen, rel=0.10)


def test_table_2_trajectories_stay_below_their_length_limit_and_are_unequal():
    for name, shape in synthetic.TABLE_2.items():
        made = synthetic.generate(shape, num_trajectories=100, seed=7, vocab_size=1000)
        assert max(t.total_tokens for t in made) <= int(name[len("table2-") : -1]) * 1024
        assert len({len(t.turns) for t in made}) > 20


def make(**changes: int):
    options = dict(num_trajectories=5, num_turns=8, total_tokens=9000, gen_tokens=16, seed=0) | changes
    return code_reading.generate(**options, encode=words)


@pytest.mark.parametrize("seed", range(3))
def test_code_reading_has_the_promised_shape(seed):
    for trajectory in make(seed=seed):
        assert len(trajectory.turns) == 8
        assert 0.9 * 9000 <= trajectory.total_tokens <= 1.1 * 9000
        assert all(turn.gen_tokens == 16 for turn in trajectory.turns)
        assert trajectory.turns[0].append_tokens == pytest.approx(0.2 * trajectory.total_tokens, abs=1)


def test_code_reading_mean_context_is_that_of_table_2_with_many_turns():
    assert statistics(make(num_turns=60, num_trajectories=20, total_tokens=20000))["mean_context"] == pytest.approx(
        0.6 * 20000, rel=0.05
    )


def test_code_reading_is_real_text_and_the_same_each_time():
    a, b = make(), make()
    assert [t.turns[3].append_ids.tolist() for t in a] == [t.turns[3].append_ids.tolist() for t in b]
    text = bytes(int(i) - 16 for i in a[0].turns[0].append_ids).decode(errors="replace")
    assert text.startswith("<|im_start|>system\nYou are agent 0 of run 0.")
    assert "\n$ " in text and text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert len({t.turns[0].append_ids[:64].tobytes() for t in a}) == len(a)


def test_code_reading_handles_the_smallest_turns_and_refuses_less():
    assert [t.append_tokens for t in make(num_turns=8, total_tokens=160, num_trajectories=1)[0].turns]
    with pytest.raises(ConfigError, match="leave nothing to append"):
        make(total_tokens=100)


def test_an_empty_library_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no Python sources"):
        _ = StandardLibrary(tmp_path).files


def load(trace: str, **changes: object):
    options = dict(max_turns=None, token_scale=1.0, max_gen=None, gen_tokens=None, max_context_tokens=10**6, seed=0)
    options |= dict(encode=words, vocab_size=300, total_tokens=4000, tool_delays=False, num_trajectories=3) | changes
    return load_workload(trace, **options)


def test_named_workloads_obey_their_limits():
    for trajectory in load("code-reading", max_turns=5, gen_tokens=4):
        assert [t.gen_tokens for t in trajectory.turns] == [4] * 5
    scaled = load("table2-32k", token_scale=0.05, max_turns=10, max_gen=3)
    assert len(scaled) == 3
    for trajectory in scaled:
        assert len(trajectory.turns) == 10 and max(t.gen_tokens for t in trajectory.turns) <= 3
        assert all(16 <= i < 300 for t in trajectory.turns for i in t.append_ids)


@pytest.mark.parametrize(
    ("trace", "changes", "problem"),
    [
        ("nowhere.jsonl", {}, "no such file; give code-reading, table2-32k"),
        ("table2-32k", {"max_context_tokens": 100}, "table2-32k: the first turn of trajectory table2-0-0 needs"),
        ("code-reading", {"num_trajectories": 0}, "num_trajectories must be at least 1"),
        ("code-reading", {"vocab_size": 16}, "leaves no ordinary ones"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(trace, changes, problem):
    with pytest.raises(ConfigError, match=problem):
        load(trace, **changes)
