"""Lanes of the NICs: what would starve a class, or serve KV before the model, is refused by key."""

import pytest

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.load import parse_cluster

SMALLEST = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}
LEVELS = {"model_execution": 0, "kv_urgent": 1, "kv_cache": 2}


def fabric(values):
    return parse_cluster({**SMALLEST, "fabric": values}, "c.yaml").fabric


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cnic": {"qos_vlarb_high": "0:300"}}, "fabric.cnic: qos_vlarb_high: weight 300 of lane 0 is beyond 255"),
        ({"cnic": {"qos_vlarb_low": "0:192,1:192,2:0,3:192"}}, "fabric.cnic: qos_vlarb_low: lane 2 of service level 2"),
        (
            {"cnic": {"qos_high_limit": 255}},
            "fabric.cnic: qos_high_limit: 255 is no limit, so lane 2 of kv_cache, which has no weight in qos_vlarb_high",
        ),
        ({"cnic": {"service_levels": {"model_execution": 0, "kv_cache": 2}}}, "service_levels has none for kv_urgent"),
        (
            {"cnic": {"service_levels": {**LEVELS, "scrub": 3}}},
            "fabric.cnic: service_levels: scrub does not go over these NICs; leave it out",
        ),
        ({"cnic": {"packet_bytes": 1}}, "fabric.cnic.packet_bytes: Input should be 256, 512, 1024, 2048 or 4096"),
        ({"cnic": {"service_levels": {**LEVELS, "kv_cold": 3}}}, "fabric.cnic.service_levels.kv_cold"),
        ({"snic": {"qos_vlarb_low": "2:192,3:0"}}, "fabric.snic: qos_vlarb_low: lane 3 of service level 3"),
    ],
    ids=str,
)
def test_a_mistake_is_named(values, says):
    with pytest.raises(ConfigError) as caught:
        fabric(values)
    assert str(caught.value).startswith("c.yaml: ") and says in str(caught.value)


def test_all_classes_may_share_a_lane():
    assert fabric({"cnic": {"service_levels": dict.fromkeys(LEVELS, 2)}}).cnic.lanes.lane(TrafficClass.KV_CACHE) == 2


def test_packets_are_marked_where_the_network_tells_classes_apart_by_it():
    assert fabric({}).tos == {} and fabric({"kind": "roce"}).tos[TrafficClass.MODEL_EXECUTION] >> 2 == 46


@pytest.mark.parametrize(
    ("values", "urgent", "cache"),
    [
        ({"kind": "infiniband"}, "UCX_IB_SL=1", "UCX_IB_SL=2"),
        ({"kind": "infiniband", "cnic": {"service_levels": {**LEVELS, "kv_urgent": 2}}}, "UCX_IB_SL=2", "UCX_IB_SL=2"),
        ({"kind": "roce"}, "UCX_IB_TRAFFIC_CLASS=138", "UCX_IB_TRAFFIC_CLASS=106"),
    ],
    ids=str,
)
def test_kv_by_rdma_is_marked_with_what_its_network_goes_by(values, urgent, cache):
    marks = fabric(values).marks
    assert {each: str(mark) for each, mark in marks.items()} == {"kv_urgent": urgent, "kv_cache": cache}


def test_nothing_is_marked_where_nobody_said_which_network_it_is():
    """Service levels alone do not say so: emulated NICs have them, too."""
    found = fabric({"cnic": {"service_levels": {**LEVELS, "kv_cache": 3}, "qos_vlarb_low": "0:192,1:192,2:64,3:192"}})
    assert found.marks == found.tos == fabric({}).marks == {}
    assert found.network == "infiniband" and str(found.mark(TrafficClass.KV_CACHE)) == "UCX_IB_SL=3", "for the files"
