"""Bounds hold: no simulated run is above them."""

import pytest

from dualpath_ray.planning.candidate import DUAL, SINGLE, SYSTEMS
from dualpath_ray.planning.limits import rate_limits, tightest, unloaded_s
from dualpath_ray.planning.split import Split
from dualpath_ray.planning.steady import measure
from dualpath_ray.planning.work import turn_work
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.workload.trajectory import TrajectoryLengths


def test_the_work_of_a_turn_is_what_the_simulator_counts(specs, trajectories):
    spec = specs()[DUAL]
    work = turn_work(trajectories, spec)
    simulation = Simulation(spec, trajectories)
    simulation.offline(len(trajectories))
    turns = simulation.turns
    assert work.turns == 12
    assert work.hit == pytest.approx(turns.column("hit_tokens").mean())
    assert work.miss == pytest.approx(turns.column("miss_tokens").mean())
    assert work.gen == pytest.approx(turns.column("generated_tokens").mean())


@pytest.mark.parametrize("split", [Split(1, 1), Split(1, 3), Split(2, 1)], ids=str)
@pytest.mark.parametrize("system", SYSTEMS)
def test_no_job_is_done_at_a_higher_rate_than_the_bounds_allow(specs, trajectories, split, system):
    spec = specs(split)[system]
    work = turn_work(trajectories, spec)
    simulation = Simulation(spec, trajectories)
    simulation.offline(len(trajectories))
    rate = len(simulation.turns) / simulation.loop.now_s
    assert rate <= tightest(rate_limits(spec, work)).turns_per_s


def test_the_single_path_is_limited_by_the_prefill_nodes_storage_nics(specs, trajectories):
    made = specs(
        Split(1, 3), node={"gpus": 1, "snic_bps": "4 Gbps", "pe_buffer_bytes": "80 GB", "de_buffer_bytes": "80 GB"}
    )
    limits = {system: tightest(rate_limits(made[system], turn_work(trajectories, made[system]))) for system in made}
    assert limits[SINGLE].resource == "PE SNIC"
    assert limits[DUAL].turns_per_s == pytest.approx(4 * limits[SINGLE].turns_per_s, rel=0.05)  # 4 NICs for 1


def test_nobody_is_quicker_than_alone(specs, trajectories):
    spec = specs()[DUAL]
    work = turn_work(trajectories, spec)
    ttft_s, tpot_s = unloaded_s(spec, work)
    point = measure(spec, trajectories, work, 2, seed=0)
    assert point.ttft_s > 0.7 * ttft_s and point.tpot_s > 0.95 * tpot_s


def test_a_limit_of_tpot_limits_decode(specs, trajectories):
    spec = specs()[DUAL]
    work = turn_work(trajectories, spec)
    free, kept, none = (rate_limits(spec, work, tpot)["DE compute"] for tpot in (None, 0.02, 0.001))
    assert free > kept > none == 0


def test_what_lies_in_storage_already_is_a_hit(specs, trajectories):
    spec = specs()[DUAL]
    met = [TrajectoryLengths("t", ((100, 5, 1.0),), stored_tokens=6_401)]
    work = turn_work(met, spec)
    assert (work.hit, work.miss, work.gen, work.delay_s) == (6_400, 101, 5, 1.0)
    simulation = Simulation(spec, met)
    simulation.offline(1)
    (turn,) = simulation.turns
    assert (turn.hit_tokens, turn.miss_tokens, turn.prompt_tokens) == (6_400, 101, 6_501)
