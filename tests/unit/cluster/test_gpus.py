"""How engines share GPUs: a share is of one device."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster import plan as planning
from dualpath_ray.cluster.plan import check_machine, engines_per_gpu, make_plan
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.scheduler.state import Request


@given(st.floats(0.01, 1.0))
def test_shares_of_one_device_never_add_up_to_more(share):
    count = engines_per_gpu(share)
    assert count >= 1 and count * share <= 1 + 1e-5 and (count + 1) * share > 1


def plan_of(nodes, gpus):
    config = {
        "prefill_nodes": nodes,
        "decode_nodes": 1,
        "model": "toy-llama",
        "engine": {"device": "cuda", "gpus": gpus},
    }
    return make_plan(parse_cluster(config, "my.yaml", {}), "my.yaml")


@pytest.mark.parametrize("nodes, gpus, have, advice", [(1, 1.0, 1, 0.5), (5, 1.0, 1, 0.16), (2, 0.6, 2, 0.5)])
def test_too_few_gpus_are_one_sentence_whose_advice_fits(nodes, gpus, have, advice, monkeypatch):
    monkeypatch.setattr(planning, "num_cuda_devices", lambda: have)
    with pytest.raises(
        ConfigError, match=rf"my.yaml: engine.gpus: .* machine's {have}; {advice} lets all of them share"
    ):
        check_machine(plan_of(nodes, gpus))
    check_machine(plan_of(nodes, advice))


def test_weights_of_a_large_shape_are_made_on_a_gpu():
    config = {"prefill_nodes": 1, "decode_nodes": 1, "model": "random-qwen2.5-7b"}
    with pytest.raises(ConfigError, match="my.yaml: model: the weights of random-qwen2.5-7b are made on a GPU"):
        make_plan(parse_cluster(config, "my.yaml", {}), "my.yaml")


def test_each_sample_takes_a_copy_of_the_prompt_on_a_gpu():
    assert plan_of(1, 0.5).prompt_copies(3) == 3
    assert Request("r", 1, "t", 100, 0, 10, 3, 3).total_tokens == 330
    assert Request("r", 1, "t", 100, 0, 10, 3).total_tokens == 130
