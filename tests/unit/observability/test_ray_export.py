"""An exporter reads, exports and prints in time, whatever fails, and ends. Ray is a list here."""

import threading
import time

import pytest

from dualpath_ray.cluster.client_metrics import ClientMetrics
from dualpath_ray.observability import ray_export
from dualpath_ray.observability.latency import MOST, StoreLatency
from dualpath_ray.observability.ray_export import Exporter, ExportSettings
from dualpath_ray.observability.samples import Reading
from tests.unit.observability import statuses


class Recorded:
    """In the place of RayMetrics."""

    def __init__(self, fails=False):
        self.samples, self.fails = [], fails

    def export(self, sample):
        if self.fails:
            raise RuntimeError("Ray is gone")
        self.samples.append(sample)


def wait(until, within_s=10.0):
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def collected(monkeypatch):
    monkeypatch.setenv("RAY_enable_metrics_collection", "1")


def exporter(read, recorded, source=ray_export.DECODE, interval_s=0.02, line_s=0.02, **kwargs):
    settings = ExportSettings("s", True, interval_s, line_s)
    labels = {"node": "d0", "role": "decode", "engine": "d0/e0"}
    return Exporter(settings, source, labels, lambda: "DecodeEngine d0/e0 on cpu", read, metrics=recorded, **kwargs)


def test_counters_are_exported_as_increments_and_the_line_is_printed(capsys):
    status, recorded = dict(statuses.DECODE), Recorded()
    made = exporter(lambda: dict(status), recorded)
    wait(lambda: recorded.samples)
    status["num_steps"] += 7
    wait(lambda: [s.value for s in recorded.samples if s.name == "dualpath_engine_batches_total"] == [10, 7])
    printed = ""
    while "DecodeEngine d0/e0 on cpu: 3 requests" not in printed:
        printed += capsys.readouterr().out
    assert "KV 30 of 120 tokens" in printed
    made.stop()
    count = len(recorded.samples)
    time.sleep(0.06)
    assert len(recorded.samples) == count and not [t for t in threading.enumerate() if t.name == "metrics"]


@pytest.mark.parametrize("what", ["status", "ray"])
def test_what_fails_is_left_out_and_tried_again(what):
    calls, recorded = [], Recorded(fails=what == "ray")

    def read():
        calls.append(1)
        if what == "status" and len(calls) < 3:
            raise AssertionError("it has not started")
        return dict(statuses.DECODE)

    made = exporter(read, recorded, line_s=0.0)
    wait(lambda: len(calls) > 3)
    recorded.fails = False
    wait(lambda: recorded.samples)
    made.stop()


@pytest.mark.parametrize("off", ["metrics", "collection"])
def test_nothing_is_read_where_nothing_is_wanted(monkeypatch, off):
    if off == "collection":
        monkeypatch.setenv("RAY_enable_metrics_collection", "0")
    settings = ExportSettings("s", off != "metrics", 0.01, 0.0)
    Exporter(settings, ray_export.DECODE, {}, str, lambda: pytest.fail("read"), metrics=Recorded()).stop(last=True)
    assert not [t for t in threading.enumerate() if t.name == "metrics"]


def test_each_kind_of_actor_has_a_line(tmp_path):
    with statuses.node_core() as core:
        before = Reading(0.0, statuses.node_status(core, 0.0))
        troubles = {"lost_slots": 1, "can_read": False, "load_failures": 2}
        troubles |= {"write_failures": 3, "last_write_error": "the disk is full"}
        statuses.carry(core, 3000, 0.0)
        now = Reading(2.0, {**statuses.node_status(core, 2.0), **troubles})
    line = ", ".join(ray_export.NODE.line(now, before))
    assert line == (
        "snic in 0.0 MB/s (100% busy) with 2.9 KiB waiting, 4 of 4 slots free, 1 lost, 0 requests, read queue 0 tokens, "
        "write-back 0 blocks, 2 blocks failed to load, 3 blocks not stored (the disk is full), cannot read the store"
    )
    scheduler = statuses.scheduler()
    scheduler.submit([statuses.request("a")])
    told = ", ".join(ray_export.SCHEDULER.line(Reading(1.0, scheduler.status()), None))
    assert "1 wait (1 for engines to report)" in told and "policy scheduled" in told
    assert "compute quota 25% used" in ", ".join(ray_export.PREFILL.line(Reading(1.0, statuses.PREFILL), None))
    stored = Reading(1.0, statuses.storage_status(str(tmp_path)))
    assert "0 of 10 blocks" in ", ".join(ray_export.STORAGE.line(stored, None))


def test_a_client_observes_its_requests_and_trajectories():
    recorded = Recorded()
    client = ClientMetrics(ExportSettings("s", True, 3600.0, 10.0), recorded)
    client.submitted("t", 100.0)
    client.ended("t", 100.0, [103.0, 101.0, 101.5], "length")
    client.submitted("t", 110.0)
    client.ended("t", 110.0, [111.0], "stop")
    client.submitted("u", 110.0)
    client.ended("u", 110.0, [], "failed")
    client.trajectory_ended("t")
    client.trajectory_ended("u")
    client.trajectory_ended("never seen")
    client.close()
    seen = {}
    for sample in recorded.samples:
        seen.setdefault(sample.name.removeprefix("dualpath_"), []).append(sample.value)
    assert seen.pop("finished_requests_total") == [1, 1, 0, 1]  # stop, length, cancelled, failed
    assert seen == {"ttft_seconds": [1.0, 1.0], "ttst_seconds": [0.5], "tpot_seconds": [1.0], "jct_seconds": [11.0]}


def test_latencies_are_given_once_and_the_last_of_very_many():
    latency = StoreLatency(statuses.NODE)
    for n in range(MOST + 5):
        latency.add("read", float(n))
    latency.add("write", 1.0)
    taken = list(latency.take())
    assert [s.value for s in taken if s.labels["operation"] == "read"] == [float(n) for n in range(5, MOST + 5)]
    assert len(taken) == MOST + 1 and not list(latency.take())
