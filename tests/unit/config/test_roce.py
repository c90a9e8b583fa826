"""Queues of RoCE in a configuration file: defaults by the paper's words, every mistake one sentence that names the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.load import parse_cluster
from dualpath_ray.config.roce import COMPUTE_CLASSES, RoceConfig

SMALLEST = {"prefill_nodes": 1, "decode_nodes": 2, "model": "toy-llama"}


def roce(**values) -> RoceConfig:
    return parse_cluster(SMALLEST | {"fabric": {"kind": "roce", "roce": values}}, "c.yaml").fabric.roce


def test_by_default_model_execution_has_nearly_all_and_nobody_nothing():
    config = roce()
    assert config.ets_percent[TrafficClass.MODEL_EXECUTION] == 97
    assert min(config.percent_of_priority.values()) >= 1 and sum(config.percent_of_priority.values()) == 100
    assert set(config.pfc_priorities) == set(config.priorities.values())
    assert all(config.dscp[each] >> 3 == priority for each, priority in config.priorities.items())  # as NICs begin


def test_control_packets_have_a_strict_queue_unless_they_have_no_dscp():
    config = roce()
    assert config.priority_of_dscp[48] == config.priority_of_dscp[56] == config.queue_of_priority[6] == 6
    assert config.kind_of_queue == {0: "ets", 3: "ets", 4: "ets", 5: "ets", 6: "strict"}
    config = roce(control_dscps=[], other_priority=6)  # its default, which is then nobody's
    assert config.queue_of_priority == (6, 6, 6, 3, 4, 5, 6, 6) and "strict" not in config.kind_of_queue.values()


@given(
    st.permutations(range(8)),
    st.lists(st.integers(0, 63), min_size=3, max_size=5, unique=True),
    st.lists(st.integers(1, 32), min_size=3, max_size=3),
)
def test_every_priority_has_a_queue_that_is_served(priorities, dscps, shares):
    config = RoceConfig(
        dscp=dict(zip(COMPUTE_CLASSES, dscps, strict=False)),
        priorities=dict(zip(COMPUTE_CLASSES, priorities, strict=False)),
        ets_percent=dict(zip(COMPUTE_CLASSES, shares, strict=True)),
        control_dscps=dscps[3:],
        control_priority=priorities[4],
        other_priority=priorities[3],
        other_ets_percent=100 - sum(shares),
        pfc_priorities=priorities[:2],
    )
    shares = config.percent_of_priority | ({config.control_priority: 100} if dscps[3:] else {})
    assert {shares[queue] > 0 for queue in config.queue_of_priority} == {True}
    for each in COMPUTE_CLASSES:
        assert config.queue_of_priority[config.priorities[each]] == config.priority_of_dscp[config.dscp[each]]
        assert config.tos(each) >> 2 == config.dscp[each] and config.tos(each) < 256


DSCP = {"model_execution": 46, "kv_urgent": 34, "kv_cache": 26}
PRIORITIES = {"model_execution": 5, "kv_urgent": 4, "kv_cache": 3}
SHARES = {"model_execution": 97, "kv_urgent": 1, "kv_cache": 1}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dscp": {"kv_cache": 1, "kv_urgent": 2}}, "dscp has none for model_execution; every class of compute NICs"),
        ({"priorities": {"model_execution": 5}}, "priorities has none for kv_urgent"),
        ({"dscp": DSCP | {"scrub": 8}}, "dscp: scrub does not go over compute NICs; leave it out"),
        ({"dscp": DSCP | {"kv_cache": 64}}, "dscp: 64 of kv_cache is not from 0 to 63"),
        ({"dscp": DSCP | {"kv_cache": 34}}, "dscp: kv_urgent and kv_cache take 34 alike"),
        ({"priorities": PRIORITIES | {"kv_cache": 8}}, "priorities.kv_cache is 8, which is not from 0 to 7"),
        ({"priorities": PRIORITIES | {"kv_cache": 4}}, "priorities.kv_urgent and priorities.kv_cache are 4 alike"),
        ({"other_priority": 3}, "priorities.kv_cache and other_priority are 3 alike"),
        ({"ets_percent": SHARES | {"model_execution": 98, "kv_cache": 0}}, "ets_percent.kv_cache is 0, so its queue"),
        ({"ets_percent": SHARES | {"model_execution": 98}, "other_ets_percent": 0}, "other_ets_percent is 0"),
        (
            {"ets_percent": SHARES | {"model_execution": 99}},
            "ets_percent and other_ets_percent sum to 102; make it 100",
        ),
        ({"other_priority": 6}, "other_priority and control_priority are 6 alike"),
        ({"control_priority": 5}, "priorities.model_execution and control_priority are 5 alike"),
        ({"control_priority": 8}, "control_priority is 8, which is not from 0 to 7"),
        ({"control_dscps": [64]}, "control_dscps: 64 is not from 0 to 63"),
        ({"control_dscps": [48, 26]}, "control_dscps: 26 is the DSCP of kv_cache; leave it out, or give the class"),
        ({"control_dscps": [48, 48]}, "control_dscps: 48 stands there twice"),
        ({"pfc_priorities": [3, 6]}, "pfc_priorities: 6 is the priority of no traffic class; choose from 3, 4, 5"),
        ({"pfc_priorities": [0]}, "pfc_priorities: 0 is the priority of no traffic class"),
        ({"pfc_priorities": [3, 3]}, "pfc_priorities: 3 stands there twice"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(values, says):
    with pytest.raises(ConfigError) as caught:
        roce(**values)
    assert str(caught.value).startswith(f"c.yaml: fabric.roce: {says}") and "\n" not in str(caught.value)


def test_a_kind_or_class_that_nobody_knows_is_named():
    with pytest.raises(ConfigError, match=r"c\.yaml: fabric\.kind: .*'infiniband' or 'roce'"):
        parse_cluster(SMALLEST | {"fabric": {"kind": "ethernet"}}, "c.yaml")
    with pytest.raises(ConfigError, match=r"fabric\.roce\.dscp\.kv_cold"):
        roce(dscp=DSCP | {"kv_cold": 8})
