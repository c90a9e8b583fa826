import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import ReadPath
from dualpath_ray.scheduler.read_side import (
    ReadSideInputs,
    load_policy,
    policy_name,
    prefill_only,
    round_robin,
    scheduled,
)
from dualpath_ray.scheduler.state import NodeLoad, Request

sides = st.builds(NodeLoad, st.just("n"), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.just(0), st.just(()))
any_inputs = st.builds(
    ReadSideInputs,
    st.builds(Request, st.just("r"), st.just(0), st.just("t"), st.just(10), st.integers(0, 9), st.just(1)),
    sides,
    sides,
    st.integers(0, 100),
)


@given(inputs=any_inputs, name=st.sampled_from(["round_robin", "scheduled"]))
def test_a_side_that_cannot_read_is_not_asked_to(inputs, name):
    path, reason = load_policy(name)(inputs)
    assert reason
    if inputs.request.hit_tokens == 0:
        assert (path, reason) == (ReadPath.PE, "no hit")
    elif inputs.prefill.can_read or inputs.decode.can_read:
        assert (inputs.prefill if path is ReadPath.PE else inputs.decode).can_read


@given(inputs=any_inputs)
def test_prefill_only(inputs):
    assert prefill_only(inputs)[0] is ReadPath.PE


@given(inputs=any_inputs)
def test_scheduled_takes_the_shorter_queue_and_then_the_side_that_read_less(inputs):
    path, _ = scheduled(inputs)
    if inputs.request.hit_tokens and inputs.prefill.can_read and inputs.decode.can_read:
        chosen, other = inputs.prefill, inputs.decode
        if path is ReadPath.DE:
            chosen, other = other, chosen
        assert (chosen.read_queue_tokens, chosen.read_bytes) <= (other.read_queue_tokens, other.read_bytes)


def test_round_robin_takes_turns_whatever_the_load(make):
    busy, idle = make.node("p0", read_queue=900), make.node("d0")
    paths = [round_robin(ReadSideInputs(make.request("r"), busy, idle, turn))[0] for turn in range(4)]
    assert paths == [ReadPath.PE, ReadPath.DE] * 2


def always_de(inputs):
    return ReadPath.DE, "mine"


@pytest.mark.parametrize("name", ["prefill_only", "round_robin", "scheduled"])
def test_names_lead_to_policies_and_back(name):
    assert policy_name(load_policy(name)) == name


def test_a_policy_of_ones_own(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_policies", sys.modules[__name__])
    assert load_policy("my_policies:always_de") is always_de
    assert policy_name(always_de).endswith(":always_de")


@pytest.mark.parametrize("name", ["", "fastest", "no_such_module:policy", "math:no_such", "math:pi", ":x", "x:"])
def test_an_unknown_policy_names_the_key(name):
    with pytest.raises(ConfigError, match=r"scheduler\.read_path"):
        load_policy(name)
