"""Status and its tables, of what actors would answer."""

from dataclasses import replace
from types import SimpleNamespace

from dualpath_ray.cluster.handles import Handles
from dualpath_ray.cluster.status import Sample
from dualpath_ray.cluster.status_json import status_of
from dualpath_ray.ops.lifecycle.status import status_text

ENGINE = {"compute_s": 1.25, "computed_tokens": 1000}
STORAGE = {"name": "storage0", "store": "/kv", "address": "10.0.0.9", "num_blocks": 3, "used_bytes": 300}


def node(time_s, moved, busy_s, queued=0):
    nic = {"bytes": moved, "moved_bytes": moved, "busy_s": busy_s, "queued_bytes": queued, "device": None}
    nic |= {"rate_bytes_per_s": 100.0, "emulated": True}
    told = {"num_slots": 8, "free_slots": 6, "lost_slots": 1, "open_requests": 2, "writing_blocks": 0}
    return {**told, "can_read": True, "load_failures": 0, "time_s": time_s, "nics": {"p0/snic/in": nic}}


def sample(time_s=10.0, moved=0, busy_s=0.0, silent=None, nodes=("p0",)):
    handles = Handles(None, [], {"p0": 1, "d0": 2}, {"p0/e0": 3}, {"d0/e0": 4})
    facts = SimpleNamespace(handles=handles, plan=SimpleNamespace(config=SimpleNamespace(model="toy-llama")))
    load = {"engine_id": "p0/e0", "num_unfinished": 2, "unfinished_tokens": 70}
    scheduler = {
        "policy": "scheduled",
        "num_waiting": 1,
        "num_bound": 2,
        "num_decisions": 3,
        "num_by_path": {"pe": 2, "de": 1},
        "groups": {"p0": {"engines": [load], "drained": True}},
    }
    engines = {"p0/e0": {**ENGINE, "role": "prefill"}}
    told = {name: node(time_s, moved, busy_s) for name in nodes}
    storage = [{**STORAGE, "capacity_bytes": 1000}]
    return Sample(facts, scheduler, told, engines, storage, {"p0": "10.0.0.1"}, silent or {})


def test_rates_are_means_between_two_samples():
    status = status_of(sample(10.0, 100, 1.0), sample(12.0, 200, 2.0), "s")
    (nic,) = status["nics"]
    assert (nic["bytes_per_s"], nic["utilisation_ratio"], nic["bytes"]) == (50.0, 0.5, 200)


def test_a_node_that_has_just_joined_has_no_rate_yet():
    status = status_of(sample(nodes=()), sample(12.0, 200, 2.0), "s")
    assert status["nics"][0]["bytes_per_s"] == 0.0


def test_who_is_silent_is_said_and_the_rest_is_shown():
    broken = "traffic manager d0 is gone: its process has died"
    status = status_of(sample(), sample(silent={"traffic manager d0": broken}), "s")
    assert status["problems"] == [broken]
    assert [(row["node"], row["state"]) for row in status["nodes"]] == [("p0", "drained"), ("d0", "gone")]
    assert status["engines"][0]["num_unfinished"] == 2 and status["storage"][0]["num_blocks"] == 3
    text = status_text(status)
    for word in (broken, "drained", "gone", "6 of 8 blocks", "read_path=scheduled", "2 by the pe path", "storage0"):
        assert word in text


def test_a_system_that_tells_nothing_has_a_status_too():
    silent = replace(sample(), nodes={}, engines={}, storage=[])
    assert "gone" in status_text(status_of(silent, silent, "s"))
