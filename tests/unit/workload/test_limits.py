"""Scaling and cutting: what holds for every trajectory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload.limits import Limits, apply_limits, repeated, scale_ids
from dualpath_ray.workload.trajectory import Trajectory, Turn

turns = st.builds(
    lambda append, gen, delay: Turn(np.arange(100, 100 + append, dtype=np.int32), gen, delay),
    st.integers(1, 300),
    st.integers(1, 50),
    st.floats(0, 5),
)
trajectories = st.lists(turns, min_size=1, max_size=12).map(lambda t: Trajectory("t", tuple(t)))
limits = st.builds(
    Limits,
    max_context_tokens=st.integers(1, 3000),
    max_turns=st.none() | st.integers(1, 12),
    token_scale=st.floats(0.01, 3),
    max_gen=st.none() | st.integers(1, 30),
    gen_tokens=st.none() | st.integers(1, 30),
    tool_delays=st.booleans(),
    contiguous=st.booleans(),
)


@given(trajectory=trajectories, limit=limits)
def test_what_is_left_is_a_prefix_inside_every_limit(trajectory, limit):
    try:
        cut = apply_limits(trajectory, limit, "trace-name")
    except ConfigError as error:
        assert all(word in str(error) for word in ("trace-name", "t", str(limit.max_context_tokens), "--token-scale"))
        return
    assert 1 <= len(cut.turns) <= min(len(trajectory.turns), limit.max_turns or 99)
    assert cut.max_context_tokens <= limit.max_context_tokens
    for turn, original in zip(cut.turns, trajectory.turns, strict=False):
        assert turn.append_tokens == max(1, round(original.append_tokens * limit.token_scale))
        assert turn.gen_tokens <= (limit.max_gen or 10**9)
        assert turn.tool_delay_s == (original.tool_delay_s if limit.tool_delays else 0.0)
        assert set(turn.append_ids) <= set(original.append_ids)
        if limit.gen_tokens and not limit.max_gen:
            assert turn.gen_tokens == limit.gen_tokens


@given(shared=st.integers(0, 200), a=st.integers(0, 200), b=st.integers(0, 200), scale=st.floats(0.05, 1.0))
def test_sampling_keeps_a_shared_prefix_shared(shared, a, b, scale):
    prefix = np.arange(shared, dtype=np.int32)
    one = np.concatenate([prefix, np.full(a + 1, 1000, dtype=np.int32)])
    two = np.concatenate([prefix, np.full(b + 1, 2000, dtype=np.int32)])
    one, two = scale_ids(one, scale, False), scale_ids(two, scale, False)
    expected = min(int(shared * scale), len(one), len(two))
    assert np.array_equal(one[:expected], two[:expected])


def test_text_is_cut_or_goes_round():
    ids = np.arange(4, dtype=np.int32)
    assert scale_ids(ids, 0.5, True).tolist() == [0, 1]
    assert scale_ids(ids, 1.5, True).tolist() == [0, 1, 2, 3, 0, 1]


def test_repeats_start_with_a_random_round_of_one_token_and_differ():
    original = Trajectory("t", (Turn(np.arange(20, 60, dtype=np.int32), 5), Turn(np.arange(20, 60, dtype=np.int32), 5)))
    limit = Limits(max_context_tokens=155)
    first, second, third = repeated([original], 3, limit, "trace", seed=0, vocab_size=1000)
    assert [t.trajectory_id for t in (first, second, third)] == ["t", "t~1", "t~2"]
    assert len(first.turns) == 2 and len(second.turns) == 3
    assert second.turns[0].gen_tokens == 1 and second.max_context_tokens <= 155
    assert second.turns[0].append_ids.tolist() != third.turns[0].append_ids.tolist()
    assert second.turns[1].append_ids.tolist() == first.turns[0].append_ids.tolist()


@pytest.mark.parametrize(
    "wrong", [{"max_turns": 0}, {"gen_tokens": 0}, {"token_scale": 0.0}, {"token_scale": float("nan")}, {"max_gen": -1}]
)
def test_a_limit_that_means_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Limits(max_context_tokens=10, **wrong)
