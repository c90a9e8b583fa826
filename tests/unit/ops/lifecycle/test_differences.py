from dualpath_ray.config.load import parse_cluster
from dualpath_ray.ops.lifecycle.differences import LIVE, differences

BASE = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama"}


def test_a_clause_for_each_key_that_differs():
    there = parse_cluster({**BASE, "storage": {"mounts": {"p0": "/a"}}}, "there")
    here = parse_cluster({**BASE, "decode_nodes": 2, "engine": {"cpus": 2}}, "here")
    assert differences(there, here) == [
        "decode_nodes is 1 there and 2 in the file",
        "engine.cpus is unset there and 2.0 in the file",
        "storage.mounts.p0 is /a there and unset in the file",
    ]
    assert differences(there, there) == []
    assert differences(there, here, but=LIVE)[0].startswith("engine.cpus")


def test_where_the_live_page_is_makes_no_other_system():
    there, here = parse_cluster(BASE, "there"), parse_cluster({**BASE, "ui": {"port": 8266}}, "here")
    assert differences(there, here) == []
