"""The system as a Ray cluster of several nodes over shaped NICs: bytes where they belong, and the dual path's speedup.

Three nodes: one prefills, one decodes, one has the storage node, whose own storage NIC is not shaped. Each has a /dev/shm of
its own, so only the network leads from one to another; Ray's own traffic goes over the compute NIC, in the low lane.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.netlab.lab import CNIC, HIGH, LOW, SNIC, Lab, why_not
from tests.ray.nodes import BIN, ROOT, cluster_environment, end, wait_up

REASON = why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

PORT = 6379
SNIC_MBIT, CNIC_MBIT = 40, 1000
ROLES = ("prefill", "decode", "storage")
JOB = ["--compare", "prefill_only,scheduled", "--num-trajectories", "6", "--max-turns", "4", "--total-tokens", "1200"]
VALUES: dict[str, Any] = {
    "prefill_nodes": 1,
    "decode_nodes": 1,
    "model": "toy-llama-32l",
    "block_tokens": 16,
    "engine": {"cpus": 1},
    "storage": {"access": "network"},
    "profile": {"s_per_flop": 1e-9, "overhead_s": 0.01, "prompt_tokens_per_s": 1e4, "new_tokens_per_s": 1e3},
}


class Cluster:
    """A Ray node on each node of a lab."""

    def __init__(self, temp: Path) -> None:
        self.lab = Lab(len(ROLES), snic_mbit=SNIC_MBIT, cnic_mbit=CNIC_MBIT)
        self._temp = temp
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {**cluster_environment(), "UCX_TLS": "tcp,self"}

    @property
    def address(self) -> str:
        return f"{self.lab.address(CNIC, 1)}:{PORT}"

    def inside(self, index: int, *command: str) -> list[str]:
        """With a /dev/shm, and a folder of Ray's session, of the node's own."""
        own = self._temp / f"node{index}"
        for folder in (own, self._temp / "ray"):
            folder.mkdir(exist_ok=True)
        mounts = f'mount --bind {own} {self._temp / "ray"} && mount -t tmpfs -o size=2g tmpfs /dev/shm && exec "$@"'
        return self.lab.inside(index, "sh", "-c", mounts, "sh", *command)

    def start(self) -> None:
        self.lab.up()
        self.lab.unshape(len(ROLES), SNIC)
        for index, role in enumerate(ROLES, 1):
            ray = [
                str(BIN / "ray"),
                "start",
                "--block",
                f"--node-ip-address={self.lab.address(CNIC, index)}",
                "--num-cpus=2",
            ]
            ray += [f"--labels=dualpath-role={role}", "--object-store-memory=100000000"]
            ray += (
                ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self._temp}/ray"]
                if index == 1
                else [f"--address={self.address}"]
            )
            log = (self._temp / f"{role}.log").open("wb")
            self._processes.append(subprocess.Popen(self.inside(index, *ray), env=self._env, stdout=log, stderr=log))
            wait_up(self._script, self.address, index, self._temp)

    def _script(self, script: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
        return self.run(timeout_s, sys.executable, "-c", script)

    def run(self, timeout_s: float, *command: str) -> "subprocess.CompletedProcess[str]":
        """On the first node."""
        return subprocess.run(
            self.inside(1, *command),
            env=self._env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def stop(self) -> None:
        end(self._processes)
        self.lab.down()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="dp-n-", ignore_cleanup_errors=True) as temp:
        made = Cluster(Path(temp))
        try:
            made.start()
            yield made
        finally:
            made.stop()


def speedup(folder: Path) -> float:
    """Of the dual path; every token was checked against the plain model before this was written."""
    summary = json.loads((folder / "summary.json").read_text())
    for run in summary["runs"]:
        assert run["load_failures"] == 0
    return float(summary["speedup"])


def test_kv_goes_over_the_compute_nic_in_the_low_lane_and_tokens_are_right_on_both_paths(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Bytes of the compute NIC are our copies, a header's share more, and Ray's control traffic: no KV bypasses it.

    Prints the dual path's speedup beside that over emulated NICs of the same rates.
    """
    real, emulated = tmp_path / "real.yaml", tmp_path / "emulated.yaml"
    more = {"node": {"snic": SNIC, "cnic": CNIC}, "transport": "sockets", "fabric": {"kind": "roce"}}
    real.write_text(yaml.safe_dump({**VALUES, **more}))
    rates = {"snic_bps": f"{SNIC_MBIT} Mbps", "cnic_bps": f"{CNIC_MBIT} Mbps"}
    emulated.write_text(yaml.safe_dump({**VALUES, "node": rates}))
    before = cluster.lab.sent_bytes(1)
    job = [str(BIN / "dualpath"), "rollout", str(real), *JOB, "--address", cluster.address]
    done = cluster.run(600, *job, "--out", str(tmp_path / "real"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    after = cluster.lab.sent_bytes(1)
    alone = [str(BIN / "dualpath"), "rollout", str(emulated), *JOB, "--out", str(tmp_path / "emulated")]
    local = subprocess.run(alone, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert local.returncode == 0, local.stdout[-2000:] + local.stderr[-3000:]

    runs = json.loads((tmp_path / "real" / "summary.json").read_text())["runs"]
    copied = sum(run["cnic_bytes"]["p0"]["out"] for run in runs)
    low = after[LOW] - before[LOW]
    assert copied <= low <= 1.2 * copied, f"{low} bytes in the low lane, {copied} copied"
    assert after[HIGH] == before[HIGH], "nothing here is model execution"
    found, predicted = speedup(tmp_path / "real"), speedup(tmp_path / "emulated")
    assert found > 1, "two storage NICs read faster than one"
    print(f"speedup over shaped NICs {found:.2f}x, over emulated ones {predicted:.2f}x")
