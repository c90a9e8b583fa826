from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.cluster.survey import RayNode
from dualpath_ray.ops.doctor.check import Level
from dualpath_ray.ops.doctor.cluster import room_check, storage_check

roles = st.sampled_from([None, "prefill", "decode"])
ray_nodes = st.lists(st.builds(RayNode, st.just("a"), roles, st.floats(0, 64), st.integers(0, 8)))


@given(nodes=ray_nodes, num=st.integers(1, 6), cpus=st.floats(0.1, 16), gpus=st.sampled_from([0.0, 0.5, 1.0, 8.0]))
def test_a_role_fits_when_enough_ray_nodes_hold_it(nodes, num, cpus, gpus):
    found = room_check("prefill", num, (cpus, gpus), nodes, required=False)
    places = [node for node in nodes if node.role == "prefill"] or nodes
    large = sum(node.cpus >= cpus and node.gpus >= gpus for node in places)
    if large >= num:
        assert found.level is Level.OK
    if not large:
        assert found.level is Level.ERROR and found.remedy


def test_a_label_that_is_required_and_missing_may_still_come():
    nodes = [RayNode("10.0.0.1", None, 8, 0)]
    found = room_check("decode", 1, (1, 0), nodes, required=True)
    assert found.level is Level.WARNING and "dualpath-role=decode" in found.says
    assert room_check("decode", 1, (1, 0), nodes, required=False).level is Level.OK
    assert storage_check(nodes, required=True).level is Level.WARNING
    assert "10.0.0.2" in storage_check([*nodes, RayNode("10.0.0.2", "storage", 1, 0)], required=True).says
