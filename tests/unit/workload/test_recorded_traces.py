"""The readers against the traces that the project was developed with (measured values from their README)."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dualpath_ray.workload.formats import read_trace
from dualpath_ray.workload.load import load_workload, statistics

TRACES = Path(__file__).parents[3].parent / "shared" / "traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="the founders' trace folder ../shared is not here")


def bytes_of(text: str) -> list[int]:
    return list(text.encode())


def load(name: str, count: int, max_context_tokens: int = 10**9, **changes: object):
    options = dict(
        max_turns=None, token_scale=1.0, max_gen=None, gen_tokens=None, seed=0, encode=bytes_of, vocab_size=49152
    )
    options |= dict(total_tokens=0, tool_delays=True, max_context_tokens=max_context_tokens) | changes
    return load_workload(str(TRACES / name), num_trajectories=count, **options)


@pytest.mark.parametrize(
    ("max_len", "turns", "append", "gen", "total", "context", "hit"),
    [
        (32768, 35.7, 363, 284, 23_097, 12_923, 0.974),
        (49152, 38.6, 362, 284, 24_928, 13_895, 0.977),
        (65536, 39.2, 363, 284, 25_337, 14_114, 0.978),
    ],
)
def test_swe_mini_has_the_statistics_of_its_readme(max_len, turns, append, gen, total, context, hit):
    found = statistics(load("swe_mini_gemini3.turns.jsonl.gz", 364, max_len))
    assert found["trajectories"] == 364
    assert found["turns"] == pytest.approx(turns, abs=0.05)
    assert (round(found["append"]), round(found["gen"])) == (append, gen)
    assert (round(found["total"]), round(found["mean_context"])) == (total, context)
    assert found["hit_ratio"] == pytest.approx(hit, abs=0.0005)


def test_whole_blocks_cost_little_of_the_hit_ratio():
    workload = load("swe_mini_gemini3.turns.jsonl.gz", 364, 65536)
    lost = statistics(workload)["hit_ratio"] - statistics(workload, block_tokens=64)["hit_ratio"]
    assert 0.0005 < lost < 0.0025


def test_sessions_are_cut_like_the_derived_turns_file():
    _, sessions = read_trace(TRACES / "claude_code_weka.requests.jsonl.gz", encode=bytes_of, vocab_size=49152, seed=0)
    _, derived = read_trace(TRACES / "claude_code_weka.turns.jsonl.gz", encode=bytes_of, vocab_size=49152, seed=0)
    from_sessions = {t.trajectory_id: t for t in islice(sessions, 12)}
    from_turns = {t.trajectory_id: t for t in islice(derived, 12)}
    assert from_sessions.keys() == from_turns.keys()
    for name, trajectory in from_sessions.items():
        other = from_turns[name]
        assert [t.append_tokens for t in trajectory.turns] == [t.append_tokens for t in other.turns]
        assert [(t.gen_tokens, t.tool_delay_s) for t in trajectory.turns] == [
            (t.gen_tokens, t.tool_delay_s) for t in other.turns
        ]


def test_segments_and_sub_agents_share_blocks_inside_their_session_only():
    prompts: dict[str, list[np.ndarray]] = {}
    for trajectory in load("claude_code_weka.requests.jsonl.gz", 40, max_turns=1):
        session = trajectory.trajectory_id.split("#")[0].split("/")[0]
        prompts.setdefault(session, []).append(trajectory.turns[0].append_ids)
    assert any(np.array_equal(own[0][:64], later[:64]) for own in prompts.values() for later in own[1:])
    starts = [{prompt[:64].tobytes() for prompt in own} for own in prompts.values()]
    assert len(set().union(*starts)) == sum(map(len, starts))


def test_mooncake_requests_share_their_first_block():
    first, second = load("mooncake_conversation.jsonl.gz", 2)
    assert (len(first.turns), first.append_tokens, first.turns[0].gen_tokens) == (1, 6758, 500)
    a, b = first.turns[0].append_ids, second.turns[0].append_ids
    assert np.array_equal(a[:512], b[:512]) and not np.array_equal(a[512:1024], b[512:1024])
    # Scaled down, the shared part stays the same share of the prompt.
    a, b = (t.turns[0].append_ids for t in load("mooncake_conversation.jsonl.gz", 2, token_scale=0.125))
    assert len(a) == round(6758 / 8) and np.array_equal(a[:64], b[:64]) and not np.array_equal(a[64:128], b[64:128])


def test_text_trajectories_hold_everything_between_the_answers():
    (trajectory,) = load("swe_mini_gemini3.text.jsonl.gz", 1, max_turns=2)
    assert trajectory.trajectory_id == "astropy__astropy-7336"
    first, second = (bytes(turn.append_ids.tolist()).decode() for turn in trajectory.turns)
    assert first.startswith("<|im_start|>system\nYou are a helpful assistant")
    assert "<|im_end|>\n<|im_start|>user\n<pr_description>" in first
    assert second.startswith("\n<|im_start|>user\n") and second.endswith("<|im_end|>\n<|im_start|>assistant\n")
