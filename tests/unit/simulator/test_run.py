"""Whole simulated runs: what must hold for every workload, system and read path."""

from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.simulator.build import typical_turn
from dualpath_ray.simulator.node import SimNode
from dualpath_ray.simulator.run import Simulation
from dualpath_ray.simulator.spec import Delays, NodeRates
from dualpath_ray.traffic.hops import HOPS, PERSIST_PROMPT, LinkKind, link_bytes
from dualpath_ray.traffic.nic import Direction
from dualpath_ray.workload.trajectory import TrajectoryLengths

turns = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 40), st.just(0.0)), min_size=1, max_size=6)
workloads = st.lists(turns, min_size=1, max_size=5).map(
    lambda many: [TrajectoryLengths(f"t{i}", tuple(each)) for i, each in enumerate(many)]
)
systems = st.fixed_dictionaries(
    {
        "prefill_nodes": st.integers(1, 2),
        "decode_nodes": st.integers(1, 3),
        "engines": st.integers(1, 2),
        "read_path": st.sampled_from(["prefill_only", "round_robin", "scheduled"]),
        "layerwise": st.booleans(),
        "prefetch": st.booleans(),
        "prefill_group": st.sampled_from([1, 2]),
        "quota_s": st.sampled_from([None, 1e-4, 0.3]),
        "pe_blocks": st.sampled_from([180, 1024]),
        "de_blocks": st.sampled_from([180, 2048]),
        "hbm_tokens": st.sampled_from([2800, 20_000]),
        "storage_bytes_per_s": st.sampled_from([None, 1.2e8]),
        "cores": st.sampled_from([None, 2]),
        "delays": st.sampled_from([Delays(), Delays(0.01, 0.02, 0.03, 0.005)]),
    }
)
properties = settings(deadline=None, max_examples=50)


def run(spec, workload, agents=None):
    simulation = Simulation(spec, workload)
    simulation.offline(agents or len(workload))
    return simulation


def reader(turn):
    """Node whose storage NIC read for a turn."""
    engine = turn.prefill_engine if turn.read_path == ReadPath.PE else turn.decode_engine
    return engine.partition("/")[0]


def moved(queue):
    return sum(queue.counters.bytes_by_class.values())


@properties
@given(workload=workloads, system=systems, agents=st.integers(1, 9))
def test_every_turn_of_every_agent_ends_and_everything_is_given_back(make_spec, workload, system, agents):
    spec = make_spec(**system)
    simulation = run(spec, workload, agents)
    wanted = sum(len(workload[a % len(workload)].turns) + (a >= len(workload)) for a in range(agents))
    assert len(simulation.turns) == wanted
    assert simulation.agents.num_done == agents
    assert simulation.system.num_under_way == 0
    for node in simulation.system.nodes.values():
        assert node.free_blocks == (spec.pe_blocks if node.role is Role.PREFILL else spec.de_blocks)
        assert node.read_queue_tokens == 0


@properties
@given(workload=workloads, system=systems)
def test_no_stage_ends_before_the_one_before_it(make_spec, workload, system):
    for turn in run(make_spec(**system), workload).turns:
        stages = [
            turn.submit_s,
            turn.assigned_s,
            turn.source_ready_s,
            turn.prefill_start_s,
            turn.prefill_end_s,
            turn.prompt_complete_s,
            turn.loaded_s,
            turn.finished_s,
        ]
        assert stages == sorted(stages)
        if turn.generated_tokens > 1:
            assert turn.loaded_s < turn.prefill_end_s + turn.ttst_s <= turn.finished_s * (1 + 1e-12)
        assert min(turn.read_queued_s, turn.read_s, turn.ttst_s, turn.tpot_s) >= 0


@properties
@given(workload=workloads, system=systems)
def test_bytes_on_every_nic_are_those_of_the_turns(make_spec, workload, system):
    simulation = run(make_spec(**system), workload)
    record, turns = simulation.record("any"), list(simulation.turns)
    by_node = dict.fromkeys(record.snic_read_bytes, 0)
    for turn in turns:
        by_node[reader(turn)] += turn.snic_read_bytes
    assert record.snic_read_bytes == by_node
    assert sum(record.snic_write_bytes.values()) == sum(turn.snic_write_bytes for turn in turns)
    cnics = [record.cnic_bytes[name] for name in record.prefill_names]
    assert sum(cnic["in"] for cnic in cnics) == sum(turn.cnic_in_bytes for turn in turns)
    assert sum(cnic["out"] for cnic in cnics) == sum(turn.cnic_out_bytes for turn in turns)


@properties
@given(workload=workloads, system=systems)
def test_links_carry_what_the_hops_of_the_read_paths_say(make_spec, workload, system):
    """Where GPUs move everything through their CNICs, and prompts are not cut: the sums of ``traffic/hops.py``."""
    spec = make_spec(**{**system, "quota_s": None}, max_batch_tokens=10**6, max_rows=10**6)
    simulation = run(replace(spec, rates=NodeRates(1e8, 1e8, 1e9, 1e10, loopback=True)), workload)
    expected = dict.fromkeys(LinkKind, 0.0)
    size = spec.layout.token_bytes
    for turn in simulation.turns:
        hops = HOPS[ReadPath(turn.read_path)] + PERSIST_PROMPT
        for link, nbytes in link_bytes(hops, turn.hit_tokens * size, turn.miss_tokens * size).items():
            expected[link] += nbytes
    found = dict.fromkeys(LinkKind, 0.0)
    for node in simulation.system.nodes.values():
        side = "pe" if node.role is Role.PREFILL else "de"
        for nic in node.cnics:
            for way in Direction:
                found[LinkKind(f"{side}_cnic_{way}")] += moved(nic[way])
    cnics = [link for link in LinkKind if link.is_cnic]
    assert {link: found[link] for link in cnics} == {link: expected[link] for link in cnics}


@properties
@given(workload=workloads, system=systems)
def test_no_link_carries_more_than_its_rate(make_spec, workload, system):
    spec = make_spec(**system)
    simulation = run(replace(spec, rates=replace(spec.rates, dram=3e8)), workload)
    now = simulation.loop.now_s
    for node in simulation.system.nodes.values():
        queues = [queue for nic in (node.snic, *node.cnics) for queue in nic.queues.values()]
        for queue in (*queues, node.dram):
            assert queue.scheduled_busy_s(now) <= now * (1 + 1e-9)
            assert moved(queue) <= queue.rate_bytes_per_s * now * (1 + 1e-9)
    if spec.storage_bytes_per_s:
        read = sum(simulation.record("any").snic_read_bytes.values())
        assert read <= spec.storage_bytes_per_s * now * (1 + 1e-6)


@properties
@given(workload=workloads, system=systems)
def test_a_node_reads_in_the_order_in_which_reads_were_begun(make_spec, workload, system):
    asked: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    plain = SimNode.read

    def read(node, nbytes, call, argument):
        number = len(asked.setdefault(node.name, []))
        asked[node.name].append(number)

        def over(argument):
            ended.setdefault(node.name, []).append(number)
            call(argument)

        plain(node, nbytes, over, argument)

    with patch.object(SimNode, "read", read):
        simulation = run(make_spec(**system), workload)
    assert ended == asked
    assert sum(map(len, asked.values())) == sum(turn.hit_tokens > 0 for turn in simulation.turns)


@properties
@given(workload=workloads, system=systems)
def test_the_same_seed_gives_the_same_run(make_spec, workload, system):
    assert list(run(make_spec(**system), workload).turns) == list(run(make_spec(**system), workload).turns)


@properties
@given(turns=turns, system=systems)
def test_one_agent_is_never_faster_than_the_oracle(make_spec, turns, system):
    workload = [TrajectoryLengths("t", tuple(turns))]
    charged = run(make_spec(**system), workload).record("charged")
    oracle = run(make_spec(**system, oracle=True, rates=NodeRates(None, None, None)), workload).record("oracle")
    assert sum(oracle.snic_read_bytes.values()) == 0
    assert oracle.jct_s <= charged.jct_s * (1 + 1e-9)


def test_a_storage_bound_job_reads_with_both_nics(make_spec):
    """Twice the storage NICs, so close to half the time: the paper's point in one assertion."""
    workload = [TrajectoryLengths(f"t{i}", tuple((200, 4, 0.0) for _ in range(8))) for i in range(12)]
    slow = NodeRates(snic_in=2e6, snic_out=1e9, cnic=1e9)
    jct = {
        path: run(make_spec(rates=slow, read_path=path), workload).record(path).jct_s
        for path in ("prefill_only", "scheduled")
    }
    assert 1.85 < jct["prefill_only"] / jct["scheduled"] < 2.1


def test_layerwise_hides_moves_behind_computation(make_spec):
    workload = [TrajectoryLengths("t", tuple((400, 1, 0.0) for _ in range(4)))]
    rates = NodeRates(snic_in=1e12, snic_out=1e12, cnic=1e8)
    jct = {
        layerwise: run(make_spec(rates=rates, layerwise=layerwise), workload).record("any").jct_s
        for layerwise in (True, False)
    }
    assert jct[True] < jct[False]


def test_times_of_one_request_follow_from_rates_and_costs(make_spec):
    spec = make_spec(read_path="prefill_only", quota_s=None)
    first, second = run(spec, [TrajectoryLengths("t", ((321, 2, 0.0), (16, 3, 0.0)))]).turns
    sealed = spec.layout.sealed_bytes
    assert (first.hit_tokens, second.hit_tokens, second.miss_tokens) == (0, 320, 19)
    assert second.source_ready_s - second.assigned_s == pytest.approx(20 * sealed / 1e8)
    attention = 19 * 30 * 9 * 2 * 128 * (320 + 10) * 1e-12
    assert second.prefill_end_s - second.prefill_start_s == pytest.approx(0.01 + 0.001 + 19 * 0.0002 + attention)
    one_step = 0.02 + 0.002 + 1e-6 * 340
    assert second.ttst_s == pytest.approx(second.loaded_s - second.prefill_end_s + one_step)
    assert second.finished_s - second.loaded_s == pytest.approx(2 * one_step + 1e-6)


@pytest.mark.parametrize("cores", (None, 4))
def test_delays_of_one_request_stand_where_they_are_said_to(make_spec, cores):
    """A core that nobody else wants gives its seconds as they are."""
    workload = [TrajectoryLengths("t", ((160, 2, 0.0), (32, 2, 0.0)))]
    found = {}
    for delays in (Delays(), Delays(submit_s=0.1, read_s=0.2, hand_over_s=0.4, turn_s=0.8)):
        turns = run(make_spec(delays=delays, cores=cores), workload).turns
        names = ("submit_s", "assigned_s", "source_ready_s", "prefill_end_s", "prompt_complete_s", "finished_s")
        found[delays] = [turns.column(name)[1] for name in names]
    before, after = found.values()
    first_turn = 0.1 + 0.4 + 0.8  # nothing is read in it
    longer = [b - a for a, b in zip(before, after, strict=True)]
    expected = [first_turn, first_turn + 0.1, *[first_turn + 0.3] * 2, *[first_turn + 0.7] * 2]
    assert longer == pytest.approx(expected)


def test_second_tokens_are_known_when_a_turn_of_one_token_joins_with_others(make_spec):
    """No step passes between them: who joined before still waits for its second token."""
    workload = [TrajectoryLengths(f"t{i}", ((100, gen, 0.0),)) for i, gen in enumerate((30, 5, 1, 5, 5))]
    for cores in (None, 2):
        turns = run(make_spec(cores=cores), workload).turns
        later = turns.column("generated_tokens") > 1
        assert (turns.column("ttst_s")[later] > 0).all()


def test_a_repeats_first_round_is_counted_when_room_is_checked():
    lengths = [TrajectoryLengths("t", ((400, 4, 0.0), (100, 4, 0.0)))]
    assert typical_turn(lengths).longest_tokens == 508 + 64 + 1
