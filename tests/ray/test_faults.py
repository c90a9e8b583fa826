"""Bad blocks are recomputed and counted; a dead process ends the run with one sentence."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import ray

from dualpath_ray.base.errors import DualPathError, SystemDiedError, TransportError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.system import System
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.traffic.link import Link, link_path
from dualpath_ray.traffic.messages import Collective
from dualpath_ray.workload.trajectory import Trajectory
from tests.ray.systems import check, roll_out, running, trajectories

pytestmark = pytest.mark.ray
GREEDY = SamplingParams(max_tokens=4, ignore_end=True)


def settle(system: System) -> None:
    """Until every write is committed."""
    deadline = time.monotonic() + 30
    while any(s["num_writing"] for s in system.status()["storage"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def flip(files: list[Path]) -> None:
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)


def truncate(files: list[Path]) -> None:
    os.truncate(files[0], files[0].stat().st_size - 4096)


def swap(files: list[Path]) -> None:
    first, second = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(second)
    files[1].write_bytes(first)


EXAMPLES = {  # one of each kind of part that a user may bring
    "scheduler.read_path": "dualpath_ray.examples.always_de:always_de",
    "storage.store": "dualpath_ray.examples.counting_store:CountingStore",
    "transport": "dualpath_ray.examples.descriptor_transport:DescriptorTransport",
}


@pytest.mark.parametrize("parts", [{"scheduler.read_path": "prefill_only"}, EXAMPLES], ids=["single path", "examples"])
def test_bad_blocks_are_detected_recomputed_and_counted(parts: dict[str, str], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    prompts = [rng.integers(16, 500, 170).astype(np.int32) for _ in range(3)]
    with running({"storage.path": str(tmp_path), **parts}) as (system, client):
        for prompt, spoil in zip(prompts, (flip, truncate, swap), strict=True):
            before = set(tmp_path.rglob("*.kv"))
            want = client.generate(prompt, GREEDY, "a").result(60)[0].token_ids
            settle(system)
            files = sorted(set(tmp_path.rglob("*.kv")) - before)
            assert len(files) == 10
            spoil(files)
            again = client.generate(prompt, GREEDY, "b")
            assert again.result(60)[0].token_ids == want
            assert again.request.hit_tokens == 160
            assert again.facts["hit_blocks"] < 10, "a spoiled block was served"
            settle(system)
            third = client.generate(prompt, GREEDY, "c")
            assert third.result(60)[0].token_ids == want
            assert third.facts["hit_blocks"] == 10, "what was recomputed is stored anew"
        nodes = system.status()["nodes"].values()
        failures = sum(n["load_failures"] for n in nodes)
        assert failures == sum(sum(n["load_failures_by_cause"].values()) for n in nodes)
        assert all(set(n["recomputed_tokens"]) <= {"corrupt", "missing"} for n in nodes)
        assert failures == 4, "one flipped, one truncated, two swapped"
        assert all(n["free_slots"] == n["num_slots"] for n in system.status()["nodes"].values())


def test_the_token_check_fails_when_a_loaded_block_is_zeroed_and_not_verified(tmp_path: Path) -> None:
    work = trajectories(1, turns=2, first=200)
    with running({"storage.path": str(tmp_path), "storage.verify": False}) as (system, client):
        head = Trajectory("t0", work[0].turns[:1])
        roll_out(system, client, [head])
        settle(system)
        for file in tmp_path.rglob("*.kv"):
            data = bytearray(file.read_bytes())
            data[4096:] = bytes(len(data) - 4096)
            file.write_bytes(data)
        record = roll_out(system, client, work)
        assert record.turns[-1].hit_tokens > 0
        assert not check(system, record).identical


def test_prefill_nodes_without_the_store_still_hit_through_decode_nodes(tmp_path: Path) -> None:
    overrides = {"storage.mounts": {"p0": str(tmp_path / "not-mounted")}, "storage.access": "files"}
    with running(overrides) as (system, client):
        record = roll_out(system, client, trajectories(2))
        assert check(system, record).identical
        assert record.snic_read_bytes["p0"] == 0 and record.snic_read_bytes["d0"] > 0
        assert all(t.hit_tokens > 0 and t.recomputed_tokens == 0 for t in record.turns if t.turn)
        assert record.load_failures == 0


def test_a_node_that_cannot_open_the_files_reads_from_the_storage_node(tmp_path: Path) -> None:
    overrides = {
        "storage.mounts": {"p0": str(tmp_path / "not-mounted")},
        "storage.num_nodes": 2,
        "transport": "sockets",
    }
    with running(overrides) as (system, client):
        record = roll_out(system, client, trajectories(2))
        assert check(system, record).identical
        assert min(record.snic_read_bytes.values()) > 0
        assert all(t.hit_tokens > 0 and t.recomputed_tokens == 0 for t in record.turns if t.turn)
        assert record.load_failures == 0


def test_a_node_whose_way_to_the_store_breaks_leaves_reading_to_others_and_deletes_nothing(tmp_path: Path) -> None:
    store, mount = tmp_path / "store", tmp_path / "mount"
    mount.symlink_to(store)
    prompt = np.random.default_rng(11).integers(16, 500, 170).astype(np.int32)
    with running({"storage.path": str(store), "storage.mounts": {"p0": str(mount)}}) as (system, client):
        want = client.generate(prompt, GREEDY, "a").result(60)[0].token_ids
        settle(system)
        stored = set(store.rglob("*.kv"))
        assert len(stored) == 10
        mount.unlink()
        reads = {"p0": 0, "d0": 0}
        while not (reads["p0"] and reads["d0"]):  # equal queues: the side that has read less is next
            again = client.generate(prompt, GREEDY, "b")
            assert again.result(60)[0].token_ids == want
            reads = {name: node["num_reads"] for name, node in system.status()["nodes"].items()}
        settle(system)
        assert set(store.rglob("*.kv")) == stored
        deadline = time.monotonic() + 30
        while system.status()["nodes"]["p0"]["can_read"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)  # the leader's report is on its way to the scheduler
        after = client.generate(prompt, GREEDY, "c")
        assert after.result(60)[0].token_ids == want and after.facts["hit_blocks"] == 10
        assert client.decisions()[-1]["reason"] == "PE cannot read"


def test_a_dead_engine_ends_every_request_with_one_sentence() -> None:
    with running() as (system, client):
        pid = next(a["pid"] for a in _actors(system, "decode"))
        generation = client.generate(np.arange(16, 200), SamplingParams(max_tokens=200, ignore_end=True), "t")
        next(iter(generation))
        started = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(SystemDiedError) as death:
            generation.result(60)
        assert time.monotonic() - started < 60
        assert len(str(death.value).splitlines()) == 1
        with pytest.raises(SystemDiedError):
            client.generate(np.arange(16, 60), GREEDY, "t")


def test_engines_hear_of_a_traffic_manager_that_fails_though_its_process_goes_on() -> None:
    """Somebody asks for a compute NIC that is not there; whoever waits for an answer must not wait for ever."""
    with running() as (system, client):
        generation = client.generate(np.arange(16, 200), SamplingParams(max_tokens=200, ignore_end=True), "t")
        next(iter(generation))
        link = Link.dial(link_path(system.name, "d0"), "engine:1")
        link.send(Collective(99, 1, 1000, time.monotonic()))
        assert link.receive() is None, "no answer, but the end"
        with pytest.raises(DualPathError):
            generation.result(60)
        with pytest.raises(TransportError, match="traffic manager of d0 failed: IndexError"):
            ask(system.handles.traffic["d0"].ping.remote(), "d0")
        with pytest.raises(SystemDiedError, match="d0/e0 lost its traffic manager"):
            ask(system.handles.decode["d0/e0"].ping.remote(), "d0/e0")


def _actors(system: System, kind: str) -> list[dict[str, int]]:
    handles = {"decode": system.handles.decode, "prefill": system.handles.prefill}[kind]
    return [{"pid": ray.get(h.pid.remote())} for h in handles.values()]
