"""What short runs say is what long ones say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.planning.candidate import DUAL, SINGLE
from dualpath_ray.planning.load_curve import first_turns, job_of, job_s, later_parts
from dualpath_ray.planning.objective import JobTime, SustainedRate
from dualpath_ray.planning.online import Online, Slo, online_means, poisson_arrivals
from dualpath_ray.planning.split import Split
from dualpath_ray.planning.steady import Patience, SteadyPoint, measure, on_their_way
from dualpath_ray.planning.work import turn_work
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.workload.trajectory import TrajectoryLengths

SLOW = {"gpus": 1, "snic_bps": "5 Gbps", "pe_buffer_bytes": "80 GB", "de_buffer_bytes": "80 GB"}
turns = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 40), st.just(0.0)), min_size=1, max_size=6)
traces = st.lists(turns, min_size=1, max_size=5).map(
    lambda many: [TrajectoryLengths(f"t{i}", tuple(each)) for i, each in enumerate(many)]
)


@settings(deadline=None)
@given(traces, st.integers(1, 30), st.integers(0, 9))
def test_agents_are_met_with_all_that_is_over_in_storage(trace, num_agents, seed):
    totals = {t.trajectory_id: (t.total_tokens, t.turns) for t in trace}
    met = on_their_way(trace, num_agents, 1.0, 0.01, 100, seed)
    assert len(met) >= num_agents + 100 // max(len(t.turns) for t in trace)
    for t in met:
        total, every = totals[t.trajectory_id]
        assert t.turns and t.total_tokens == total and t.turns == every[len(every) - len(t.turns) :]
    assert all(t.stored_tokens == 0 for t in met[num_agents:])


def test_long_turns_are_met_more_often():
    trace = [TrajectoryLengths("quick", ((10, 1, 0.0),) * 10), TrajectoryLengths("slow", ((10, 91, 0.0),) * 10)]
    met = on_their_way(trace, 1000, ttft_s=1.0, tpot_s=0.1, num_turns=0, seed=0)[:1000]
    assert sum(t.trajectory_id == "slow" for t in met) == pytest.approx(1000 * 10 / 11, rel=0.02)


@settings(deadline=None)
@given(traces, st.integers(1, 4), st.integers(1, 12))
def test_parts_of_a_job_are_the_job(trace, num_parts, num_agents):
    parts = later_parts(trace, num_parts)
    for i, trajectory in enumerate(trace):
        assert first_turns(trace)[i].turns + sum((part[i].turns for part in parts), ()) == trajectory.turns
        assert parts[-1][i].total_tokens == trajectory.total_tokens
    job = job_of(parts, num_agents, turn_s=0.5)
    later = [len(trace[a % len(trace)].turns) - 1 for a in range(num_agents)]
    assert job.turns.sum(axis=0).tolist() == later
    assert job.delays_s.sum() == pytest.approx(0.5 * sum(later))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.floats(0.1, 5), st.floats(0.001, 0.1))
def test_a_job_at_constant_times_takes_as_long_as_its_longest_agent(num_agents, num_turns, ttft_s, step_s):
    trace = [TrajectoryLengths(f"t{i}", ((10, 5 + i, 0.0),) * (num_turns + 1)) for i in range(7)]
    parts = later_parts(trace, 2)
    points = [SteadyPoint(n, 1.0, ttft_s, 0.0, step_s, step_s, 0.0, {}, 0) for n in (1, num_agents + 1)]
    steps = [4 + i % 7 for i in range(num_agents)]
    longest = num_turns * (ttft_s + step_s * max(steps))
    assert job_s([points, points], job_of(parts, num_agents)) == pytest.approx(longest)


def test_a_run_that_is_hopeless_is_given_up(specs, trajectories):
    spec = specs(node=SLOW)[SINGLE]
    work = turn_work(trajectories, spec)
    whole = measure(spec, trajectories, work, 60, seed=0)
    cut = measure(spec, trajectories, work, 60, seed=0, patience=Patience(ttft_s=whole.ttft_s / 10))
    assert cut.num_turns < whole.num_turns and cut.ttft_s > whole.ttft_s / 10


@pytest.mark.parametrize("system", [DUAL, SINGLE])
def test_the_rate_that_is_sustained_is_sustained_by_agents_that_arrive(specs, trajectories, system):
    spec = specs(Split(1, 1), node=SLOW)[system]
    work, slo = turn_work(trajectories, spec), Slo()
    found = SustainedRate(trajectories, work, slo, seed=0).run(spec, 1.0)
    means = []
    for part in (0.9, 1.4):  # far above: a run from an empty cluster has young agents with short contexts for long
        online = Online(found.value * part, 240.0, seed=0)
        simulation = Simulation(spec, trajectories)
        simulation.online(poisson_arrivals(online), online.duration_s)
        means.append(online_means(simulation.record("x"), online))
    assert means[0]["ttft_s"] <= slo.ttft_s and means[0]["tpot_s"] <= slo.tpot_s
    assert means[1]["ttft_s"] > slo.ttft_s or means[1]["tpot_s"] > slo.tpot_s


@pytest.mark.parametrize("system", [DUAL, SINGLE])
def test_a_jobs_time_is_that_of_the_whole_job(specs, trajectories, system):
    spec = specs(Split(1, 1), node=SLOW)[system]
    whole = Simulation(spec, trajectories)
    whole.offline(80)
    found = JobTime(trajectories, turn_work(trajectories, spec), 80, seed=0).run(spec, 1.0)
    assert found.value == pytest.approx(whole.loop.now_s, rel=0.15)
    assert found.busiest[0] in ("PE SNIC", "DE SNIC")


def test_the_same_seed_gives_the_same_point(specs, trajectories):
    spec = specs()[DUAL]
    work = turn_work(trajectories, spec)
    first, second = (measure(spec, trajectories, work, 20, seed=3) for _ in range(2))
    assert first == second
    assert np.isfinite(first.turns_per_s) and first.turn_s == pytest.approx(20 / first.turns_per_s)
