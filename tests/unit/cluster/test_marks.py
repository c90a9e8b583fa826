"""The marks of a configuration reach whoever makes agents of NIXL: traffic managers, and engines for the CNIC's loopback."""

import pytest

from dualpath_ray.base.types import Role
from dualpath_ray.cluster.plan import make_plan
from dualpath_ray.config.load import parse_cluster

SMALLEST = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16}


@pytest.mark.parametrize(
    ("fabric", "urgent", "cache"),
    [
        ({"kind": "infiniband"}, "UCX_IB_SL=1", "UCX_IB_SL=2"),
        ({"kind": "roce"}, "UCX_IB_TRAFFIC_CLASS=138", "UCX_IB_TRAFFIC_CLASS=106"),
    ],
)
def test_marks_of_the_configured_network_are_told(fabric, urgent, cache):
    plan = make_plan(parse_cluster({**SMALLEST, "fabric": fabric}, "c.yaml"), "c.yaml", 512)
    marks = plan.node_spec(("s", "s"), "p0", Role.PREFILL, "/tmp/store", "local").marks
    assert {each: str(mark) for each, mark in marks.items()} == {"kv_urgent": urgent, "kv_cache": cache}
    assert str(plan.engine_spec(("s", "s"), "d0", Role.DECODE, 0).loopback_mark) == cache, (
        "between DRAM and HBM it is KV as any other"
    )


def test_a_configuration_without_a_network_marks_nothing():
    plan = make_plan(parse_cluster(SMALLEST, "c.yaml"), "c.yaml", 512)
    assert plan.node_spec(("s", "s"), "p0", Role.PREFILL, "/tmp/store", "local").marks == {}
    assert plan.engine_spec(("s", "s"), "d0", Role.DECODE, 0).loopback_mark is None
