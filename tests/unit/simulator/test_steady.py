"""A cluster that is kept at a number of agents."""

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.simulator.busy import busy_s
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.traffic.hops import LinkKind
from dualpath_ray.workload.trajectory import TrajectoryLengths

turns = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 40), st.just(0.0)), min_size=1, max_size=4)
workloads = st.lists(st.tuples(turns, st.integers(0, 800)), min_size=1, max_size=5).map(
    lambda many: [TrajectoryLengths(f"t{i}", tuple(each), stored) for i, (each, stored) in enumerate(many)]
)


@settings(deadline=None, max_examples=40)
@given(workload=workloads, num_agents=st.integers(1, 8))
def test_whoever_ends_is_replaced_and_nobody_else(make_spec, workload, num_agents):
    simulation = Simulation(make_spec(hbm_tokens=40_000), workload)
    before = 0.0
    for now_s in islice(simulation.steady([0.1 * i for i in range(num_agents)], 0.5), 8):
        assert now_s > before and simulation.loop.now_s <= now_s
        before = now_s
        arrived = simulation.agents.num_arrived
        assert arrived - simulation.agents.num_done == simulation.system.num_under_way <= num_agents
    assert arrived - simulation.agents.num_done == num_agents
    busy = busy_s(simulation.system, before)
    assert set(busy) == set(LinkKind)
    assert all(0 <= seconds <= before + 1e-9 for seconds in busy.values())


def test_what_lies_in_storage_already_is_read(make_spec):
    spec = make_spec()
    simulation = Simulation(spec, [TrajectoryLengths("t", ((16, 2, 0.0), (16, 2, 0.0)), stored_tokens=321)])
    simulation.offline(2)
    hits = {(turn.trajectory_id, turn.turn): turn.hit_tokens for turn in simulation.turns}
    assert (hits["t", 0], hits["t", 1]) == (320, 336)
    assert hits["t~1", 0] == 0  # a repeat begins anew
