"""A Ray node on each node of a lab: each with a /dev/shm of its own, so that only the network leads from one to another.

Ray's control traffic goes over a NIC of its own, and so does ours: what a compute NIC carries is KV and collectives.
"""

import subprocess
import sys
from pathlib import Path

from tests.netlab.lab import CNIC, MGMT, SNIC, Lab
from tests.ray.nodes import BIN, ROOT, cluster_environment, end, wait_up

PORT = 6379


class Cluster:
    """The last node has the storage, whose NIC is as fast as it is."""

    def __init__(self, temp: Path, roles: tuple[str, ...], **rates: int) -> None:
        self.roles, self.lab = roles, Lab(len(roles), **rates)
        self._temp = temp
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {**cluster_environment(), "UCX_TLS": "tcp,self"}

    @property
    def address(self) -> str:
        return f"{self.lab.address(MGMT, 1)}:{PORT}"

    def inside(self, index: int, *command: str) -> list[str]:
        """With a /dev/shm, and a folder of Ray's session, of the node's own."""
        own = self._temp / f"node{index}"
        for folder in (own, self._temp / "ray"):
            folder.mkdir(exist_ok=True)
        mounts = f'mount --bind {own} {self._temp / "ray"} && mount -t tmpfs -o size=2g tmpfs /dev/shm && exec "$@"'
        return self.lab.inside(index, "sh", "-c", mounts, "sh", *command)

    def start(self) -> None:
        self.lab.up()
        self.lab.unshape(len(self.roles), SNIC)
        for index, role in enumerate(self.roles, 1):
            where = f"--node-ip-address={self.lab.address(MGMT, index)}"
            ray = [str(BIN / "ray"), "start", "--block", where, "--num-cpus=2", f"--labels=dualpath-role={role}"]
            ray.append("--object-store-memory=100000000")
            head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self._temp}/ray"]
            ray += head if index == 1 else [f"--address={self.address}"]
            log = (self._temp / f"node{index}.log").open("wb")
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

    def sent(self, nic: str = CNIC) -> list[dict[str, int]]:
        """Bytes that each lane of each node's NIC has sent."""
        return [self.lab.sent_bytes(index, nic) for index in range(1, len(self.roles) + 1)]

    def devices(self, nic: str) -> list[tuple[int, int]]:
        """(received, sent) by each node's NIC."""
        return [self.lab.device_bytes(index, nic) for index in range(1, len(self.roles) + 1)]

    def stop(self) -> None:
        end(self._processes)
        self.lab.down()
