"""Ray's own autoscaler: nodes that ``dualpath scale`` asks for come, and go again when they are idle, under load."""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.ray.nodes import BIN, Cluster

pytestmark = pytest.mark.timeout(600)
SETUP = ["setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"]
SETUP += [
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
]  # that Ray wants to be there, of machines it sets up
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"  # what Ray's fake provider calls the head
CONFIG = """
prefill_nodes: 1
decode_nodes: 1
model: toy-llama
block_tokens: 16
name: scaled
node: {snic_bps: 2 MB/s, cnic_bps: 20 MB/s, role_labels: required}
engine: {cpus: 1}
"""
WORK = ["--num-trajectories", "4", "--max-turns", "4", "--total-tokens", "300"]


def autoscaling(address: str) -> dict[str, object]:
    """A head without CPUs, and workers that come when somebody asks for them: processes of this machine."""
    worker = {"node_config": {}, "min_workers": 0, "max_workers": 2}
    roles = {
        role: {**worker, "resources": {"CPU": 1, "object_store_memory": 80_000_000}, "labels": {"dualpath-role": role}}
        for role in ("prefill", "decode", "storage")
    }
    roles["storage"] |= {"min_workers": 1, "max_workers": 1}  # a storage node takes no CPU: nothing asks for one
    head = {"node_config": {}, "resources": {"CPU": 0}, "max_workers": 0}
    # As an external one: Ray's wheel lacks the file with the defaults of the type fake_multinode.
    provider = {"type": "external", "module": PROVIDER, "gcs_address": address}
    provider |= {"head_node_id": HEAD, "launch_multiple": True}
    return {
        "cluster_name": "scaled",
        "max_workers": 5,
        "idle_timeout_minutes": 0.1,
        "provider": provider,
        "head_node_type": "ray.head.default",
        **dict.fromkeys(SETUP, []),
        "auth": {},
        "file_mounts": {},
        "available_node_types": {"ray.head.default": head, **roles},
    }


class ScaledCluster(Cluster):
    """Its head starts the other nodes itself."""

    def start(self) -> None:
        config = self._logs / "autoscaler.json"
        config.write_text(json.dumps(autoscaling(self.address)))
        self.env |= {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_ADDRESS": self.address,
        }
        log = (self._logs / "head.log").open("wb")
        command = [str(BIN / "ray"), "start", "--block", "--head", "--num-cpus=0", f"--autoscaling-config={config}"]
        command += [
            f"--port={self.port}",
            f"--dashboard-port={self.dashboard}",
            f"--ray-client-server-port={self.client}",
        ]
        command += [
            f"--temp-dir={self._logs / 'ray'}",
            "--node-ip-address=127.0.0.1",
            "--dashboard-agent-listen-port=0",
        ]
        self._processes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))
        self.wait_up(2)  # with the storage node

    def stop(self) -> None:
        family = [p for process in self._processes for p in psutil.Process(process.pid).children(recursive=True)]
        super().stop()
        for process in family:  # nodes that the autoscaler started
            if process.is_running():
                process.kill()

    def dualpath(self, *command: str) -> str:
        done = self.run(str(BIN / "dualpath"), *command, timeout_s=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def nodes(self) -> list[tuple[str, str]]:
        """(id, role of its label) of every Ray node that is alive."""
        listed = self.run(
            str(BIN / "ray"),
            "list",
            "nodes",
            "--format=json",
            "--detail",
            f"--address=http://127.0.0.1:{self.dashboard}",
        )
        assert listed.returncode == 0, listed.stderr[-2000:]
        alive = [node for node in json.loads(listed.stdout) if node["state"] == "ALIVE"]
        return [(node["node_id"], node["labels"].get("dualpath-role", "head")) for node in alive]

    def roles(self) -> dict[str, int]:
        """How many of each role."""
        found = [role for _, role in self.nodes()]
        return {role: found.count(role) for role in ("prefill", "decode", "storage")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ScaledCluster]:
    with tempfile.TemporaryDirectory(prefix="dp-a-", ignore_cleanup_errors=True) as temp:
        cluster = ScaledCluster(Path(temp))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def until(what: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(1)


def scale_under_load(cluster: ScaledCluster, config: Path, out: Path, num: str) -> None:
    """To so many nodes of each role, while a rollout runs."""
    rollout = [str(BIN / "dualpath"), "rollout", str(config), *WORK, "--system", "scaled", "--out", str(out)]
    log = out.with_suffix(".log")
    with log.open("w") as stream:
        running = subprocess.Popen(rollout, env=cluster.env, cwd=out.parent, stdout=stream, stderr=stream)
    try:
        until(lambda: any(out.glob("progress/*/*.jsonl")) or running.poll() is not None, 90)
        assert f"scaled: {num}P{num}D" in cluster.dualpath("scale", "--prefill", num, "--decode", num)
        assert running.wait(200) == 0, log.read_text()[-3000:]
    finally:
        running.kill()


def test_nodes_come_when_they_are_asked_for_and_go_when_they_are_idle(cluster: ScaledCluster, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text(CONFIG)
    cluster.dualpath("up", str(config))
    assert cluster.roles() == {"prefill": 1, "decode": 1, "storage": 1}

    outs = [tmp_path / "up", tmp_path / "down"]
    for out, num in zip(outs, ("2", "1"), strict=True):
        scale_under_load(cluster, config, out, num)
        if num == "2":
            assert cluster.roles() == {"prefill": 2, "decode": 2, "storage": 1}
    until(lambda: cluster.roles() == {"prefill": 1, "decode": 1, "storage": 1}, 90)

    for out in outs:
        summary = json.loads((out / "summary.json").read_text())
        assert summary["tokens_identical"] and summary["runs"][0]["num_turns"] == 4 * 4
    assert "scaled is down" in cluster.dualpath("down")


def test_a_ray_node_that_goes_away_hands_off_first_and_is_replaced(cluster: ScaledCluster, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text(CONFIG)
    cluster.dualpath("up", str(config))
    (before,) = [node for node, role in cluster.nodes() if role == "decode"]
    out = tmp_path / "out"
    rollout = [str(BIN / "dualpath"), "rollout", str(config), *WORK, "--system", "scaled", "--out", str(out)]
    log = tmp_path / "rollout.log"
    with log.open("w") as stream:
        running = subprocess.Popen(rollout, env=cluster.env, cwd=tmp_path, stdout=stream, stderr=stream)
    try:
        until(lambda: any(out.glob("progress/*/*.jsonl")) or running.poll() is not None, 90)
        drain = [str(BIN / "ray"), "drain-node", f"--address={cluster.address}", f"--node-id={before}"]
        drain += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken back"]
        drained = cluster.run(*drain, "--deadline-remaining-seconds=300")
        assert drained.returncode == 0, drained.stdout + drained.stderr
        assert running.wait(240) == 0, log.read_text()[-3000:]
    finally:
        running.kill()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tokens_identical"] and summary["runs"][0]["num_turns"] == 4 * 4
    lines = ["d0: its Ray node goes away", "d0: left", "d0: joined"]
    until(lambda: lines[-1] in cluster.dualpath("logs", "keeper"), 120)
    said = cluster.dualpath("logs", "keeper")
    assert [said.index(line) for line in lines] == sorted(said.index(line) for line in lines)
    assert len(cluster.nodes()) > 1 and any(node != before for node, role in cluster.nodes() if role == "decode")
    cluster.dualpath("down")
