"""The catalogue, what is made of statuses, and that nothing is exported that the catalogue does not have."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.base.types import ReadPath
from dualpath_ray.observability import metrics, samples
from dualpath_ray.observability.metrics import BY_NAME, CATALOGUE, Kind
from dualpath_ray.observability.samples import Increments, Reading, Sample, additions
from tests.unit.observability import statuses

UNIT_IN_NAME = {
    "seconds": "_seconds",
    "bytes": "_bytes",
    "tokens": "_tokens",
    "ratio": "_ratio",
    "bytes/s": "_per_second",
}


def test_names_follow_the_conventions_of_prometheus():
    assert len(BY_NAME) == len(CATALOGUE)
    for spec in CATALOGUE:
        assert re.fullmatch(r"dualpath_[a-z][a-z0-9_]*", spec.name)
        assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER), spec.name
        for unit, ending in UNIT_IN_NAME.items():
            assert (spec.unit == unit) == spec.name.removesuffix("_total").endswith(ending), f"{spec.name}: {spec.unit}"
        assert spec.labels[0] == "system" and len(set(spec.labels)) == len(spec.labels)
        assert bool(spec.boundaries) == (spec.kind is Kind.HISTOGRAM)
        assert list(spec.boundaries) == sorted(set(spec.boundaries)) and all(b > 0 for b in spec.boundaries)
        assert spec.meaning and not spec.meaning.endswith(".")


def check(found):
    """Samples as a dictionary; each is of the catalogue, with exactly its labels, and none comes twice."""
    out = {}
    for sample in found:
        assert set(sample.labels) == set(BY_NAME[sample.name].labels), sample
        assert all(isinstance(value, str) for value in sample.labels.values())
        left_out = {"system", "role"} if "node" in sample.labels else {"system"}
        key = sample.name, *sorted(value for label, value in sample.labels.items() if label not in left_out)
        assert key not in out, sample
        out[key] = sample.value
    return out


def total(found, name):
    return sum(value for key, value in found.items() if key[0] == name)


def test_a_node_tells_of_its_nics_and_its_buffer():
    with statuses.node_core() as core:
        before = Reading(0.0, statuses.node_status(core, 0.0))
        statuses.carry(core, 500, 0.0)
        statuses.carry(core, 1000, 0.0)
        now = Reading(1.0, statuses.node_status(core, 1.0))
    found = check(samples.node_samples(now, before, statuses.NODE))
    assert found["dualpath_nic_utilisation_ratio", "in", "p0", "snic"] == 1.0
    assert found["dualpath_nic_utilisation_ratio", "out", "p0", "snic"] == 0.0
    assert found["dualpath_nic_busy_seconds_total", "in", "p0", "snic"] == pytest.approx(1.0)
    assert found["dualpath_nic_bytes_total", "", "in", "kv_cache", "p0", "snic"] == 500
    assert found["dualpath_nic_queued_bytes", "", "in", "kv_cache", "p0", "snic"] == 1000
    assert found["dualpath_nic_rate_bytes_per_second", "cnic0", "in", "p0"] == 1000
    assert total(found, "dualpath_buffer_slots") == found["dualpath_buffer_slots", "free", "p0"] == 4
    assert found["dualpath_node_can_read", "p0"] == 1
    zero = total(found, "dualpath_recomputed_tokens_total")
    assert zero == 0 and len([key for key in found if key[0] == "dualpath_recomputed_tokens_total"]) == len(
        metrics.RECOMPUTE_CAUSES
    ), "what has not happened yet is there, too, or its first time would not be seen"


def test_a_direction_without_a_known_rate_has_no_utilisation():
    with statuses.node_core() as core:
        for nic in (core.context.snic, *core.context.cnics):
            for queue in nic.queues.values():
                queue.rate_bytes_per_s = None
        statuses.carry(core, 500, 0.0)
        first, second = (Reading(t, statuses.node_status(core, t)) for t in (0.0, 1.0))
    found = check(samples.node_samples(second, first, statuses.NODE))
    assert not any(key[0] in ("dualpath_nic_utilisation_ratio", "dualpath_nic_rate_bytes_per_second") for key in found)
    assert total(found, "dualpath_nic_bytes_total") == 500


def of_scheduler(scheduler, before=None):
    now = Reading(1.0, scheduler.status())
    return now, check(samples.scheduler_samples(now, before, {"system": "s"}))


def test_the_scheduler_tells_of_decisions_and_why():
    scheduler = statuses.scheduler()
    scheduler.submit([statuses.request("a"), statuses.request("b", hit=0)])
    _, found = of_scheduler(scheduler)
    assert found["dualpath_scheduler_waiting_requests", "groups"] == 2
    assert found["dualpath_scheduler_awaited_groups",] == 2
    scheduler.report(statuses.report("p0", read_bytes=10))
    scheduler.report(statuses.report("d0"))
    _, found = of_scheduler(scheduler)
    assert found["dualpath_path_requests_total", "de", "fewer_bytes_read"] == 1
    assert found["dualpath_path_tokens_total", "de", "fewer_bytes_read"] == 60
    assert found["dualpath_path_requests_total", "no_hit", "pe"] == 1
    assert total(found, "dualpath_path_requests_total") == found["dualpath_scheduler_decisions_total",] == 2
    assert found["dualpath_prompt_tokens_total", "hit"] == 60 and found["dualpath_prompt_tokens_total", "miss"] == 140
    assert total(found, "dualpath_scheduler_waiting_requests") == 0
    assert len([key for key in found if key[0] == "dualpath_path_requests_total"]) == len(metrics.PATH_CHOICES)


@pytest.mark.parametrize(
    ("prefill", "decode", "cause"),
    [({"tokens": 9000}, {}, "prefill"), ({}, {"room": 5}, "decode_room")],
)
def test_what_requests_wait_for(prefill, decode, cause):
    scheduler = statuses.scheduler()
    scheduler.report(statuses.report("p0", **prefill))
    scheduler.report(statuses.report("d0", **decode))
    scheduler.submit([statuses.request("a"), statuses.request("b")])
    _, found = of_scheduler(scheduler)
    assert found["dualpath_scheduler_waiting_requests", cause] == 2
    assert total(found, "dualpath_scheduler_waiting_requests") == 2


@pytest.mark.parametrize(
    ("read_path", "reads", "balance"),
    [("scheduled", (30, 10), 1.5), ("scheduled", (0, 0), 1.0), ("prefill_only", (30, 0), 1.0)],
)
def test_balance_is_of_the_nodes_that_may_read(read_path, reads, balance):
    scheduler = statuses.scheduler(read_path)
    for group in ("p0", "d0"):
        scheduler.report(statuses.report(group, read_bytes=100))
    before, _ = of_scheduler(scheduler)
    for group, read in zip(("p0", "d0"), reads, strict=True):
        scheduler.report(statuses.report(group, read_bytes=100 + read))
    _, found = of_scheduler(scheduler, before)
    assert found["dualpath_pool_balance_ratio",] == balance
    assert found["dualpath_scheduler_dual_path",] == (read_path != "prefill_only")


def test_a_node_that_cannot_read_counts_not_for_the_balance():
    scheduler = statuses.scheduler()
    scheduler.report(statuses.report("p0", read_bytes=50))
    scheduler.report(statuses.report("d0", can_read=False))
    assert of_scheduler(scheduler)[1]["dualpath_pool_balance_ratio",] == 1.0


def test_engines_tell_of_batches_and_kv():
    labels = {**statuses.NODE, "engine": "p0/e0"}
    status = statuses.PREFILL
    later = {**status, "num_batches": 6, "predicted_s": 0.6}
    found = check(samples.prefill_samples(Reading(2.0, later), Reading(1.0, status), labels))
    assert found["dualpath_engine_quota_ratio", "p0", "p0/e0"] == pytest.approx(0.3 / (2 * 0.3))
    idle = check(samples.prefill_samples(Reading(2.0, status), Reading(1.0, status), labels))
    assert ("dualpath_engine_quota_ratio", "p0", "p0/e0") not in idle
    without = {**later, "quota_s": None}
    assert samples.quota_ratio(without, status) is None
    found = check(samples.decode_samples(Reading(1.0, statuses.DECODE), None, labels))
    assert found["dualpath_engine_kv_capacity_tokens", "p0", "p0/e0"] == 120


def test_a_storage_node_tells_of_its_shard(tmp_path):
    status = {**statuses.storage_status(str(tmp_path)), "lookup_blocks": 10, "hit_blocks": 7}
    found = check(samples.storage_samples(Reading(1.0, status), None, {"system": "s", "node": "storage0"}))
    assert found["dualpath_store_lookup_blocks_total", "miss", "storage0"] == 3
    assert found["dualpath_store_capacity_bytes", "storage0"] == 10 * statuses.LAYOUT.sealed_bytes


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 100)), max_size=30))
def test_increments_add_up_to_the_totals_whatever_restarts(steps):
    """A counter of an actor that starts anew begins at its new total."""
    increments, totals, given_, last = Increments(), Counter(), Counter(), {}
    for label, value in steps:
        sample = Sample("dualpath_shared_blocks_total", value, {"node": label})
        before = last.get(label)
        grown = increments.of(sample)
        assert (grown is None) == (before == value), "nothing to add, but for the first time"
        given_[label] += grown or 0
        totals[label] += value if before is None or value < before else value - before
        last[label] = value
    assert given_ == totals


def test_only_counters_become_increments():
    gauge, counter = "dualpath_node_can_read", "dualpath_shared_blocks_total"
    increments, labels = Increments(), {"node": "p0"}
    both = [Sample(gauge, 1.0, labels), Sample(counter, 5.0, labels)]
    assert [s.value for s in additions(both, increments)] == [1.0, 5.0]
    assert [s.name for s in additions(both, increments)] == [gauge]


def test_each_pair_of_side_and_reason_is_possible():
    assert (ReadPath.DE, "de_cannot_read") not in metrics.PATH_CHOICES
    assert {reason for _, reason in metrics.PATH_CHOICES} == set(metrics.PATH_REASONS)
