"""Times of computation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.models.known import known_model
from dualpath_ray.simulator.costs import DecodeCosts, PrefillCosts, PrefillModel

costs = st.builds(DecodeCosts, st.floats(1e-4, 0.1), st.floats(0, 0.01), st.floats(0, 1e-5))


@given(costs, st.integers(1, 60), st.integers(1, 200), st.integers(0, 10_000))
def test_steps_are_the_sum_of_each_step(costs, num_steps, num_sequences, context):
    one_by_one = sum(costs.steps_s(1, num_sequences, context + i * num_sequences) for i in range(num_steps))
    assert costs.steps_s(num_steps, num_sequences, context) == pytest.approx(one_by_one)


@given(costs, st.integers(0, 200), st.integers(1, 200), st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_whole_steps_is_the_inverse(costs, num_steps, num_sequences, context, part):
    begun = costs.steps_s(num_steps, num_sequences, context)
    next_step = costs.steps_s(num_steps + 1, num_sequences, context) - begun
    assert costs.whole_steps(begun + part * next_step, num_sequences, context) == num_steps


@given(st.integers(0, 50_000), st.integers(1, 4000), st.integers(1, 4000))
def test_attention_of_a_batch_grows_with_its_tokens(cached, bsz, more):
    model = PrefillModel(PrefillCosts(0.1, 0.01, 1e-4, 1e-15), known_model("deepseek-v3.2"))
    assert model.predict_s(cached, bsz) < model.predict_s(cached, bsz + more)
    alone = model.in_step([[(cached, bsz)]], 1).work_s
    assert model.in_step([[(cached, bsz)] * 3], 1).work_s == pytest.approx(3 * (alone - 0.1) + 0.1)
    assert model.in_step([[(cached, bsz)]] * 3, 3).work_s == pytest.approx(alone)
    uneven = model.in_step([[(cached, bsz)], [(cached, bsz + more)]], 2)
    assert uneven.work_s >= alone and uneven.slowest_attention_s > uneven.mean_attention_s
