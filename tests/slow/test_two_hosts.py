"""Nodes on two hosts: network namespaces joined by a cable, each with a /dev/shm of its own, so that only TCP leads across.

Needs root, since nobody else may make a network namespace. Nothing outside of the two can be reached from them.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.nodes import BIN, ROOT, cluster_environment, end, wait_up

ADDRESSES = ("198.18.7.1", "198.18.7.2")  # of a range that is reserved for tests of networks
DEVICE = "cnic0"
PORT = 6379


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20, check=False)


def can_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dp{secrets.token_hex(3)}"
    made = ip("netns", "add", name).returncode == 0
    works = made and ip("netns", "exec", name, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm").returncode == 0
    ip("netns", "del", name)
    return works


pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(420),
    pytest.mark.skipif(not can_make_namespaces(), reason="no network namespaces here: needs root and iproute2"),
]


class Hosts:
    """Two namespaces and a Ray node in each; ending the processes ends the cluster."""

    def __init__(self, temp: Path) -> None:
        self._temp, self._names = temp, [f"dp{secrets.token_hex(3)}{side}" for side in "ab"]
        self._processes: list[subprocess.Popen[bytes]] = []
        # one kernel, so UCX takes both for one host and would copy through memory, or over the wrong loopback
        self.env = {**cluster_environment(), "UCX_TLS": "tcp,self", "UCX_NET_DEVICES": DEVICE}

    def join(self) -> None:
        """A cable between the two."""
        for name in self._names:
            _must(ip("netns", "add", name))
            (self._temp / name).mkdir()
        one, other = self._names
        _must(ip("link", "add", DEVICE, "netns", one, "type", "veth", "peer", "name", DEVICE, "netns", other))
        for name, address in zip(self._names, ADDRESSES, strict=True):
            _must(ip("-n", name, "addr", "add", f"{address}/24", "dev", DEVICE))
            for device in (DEVICE, "lo"):
                _must(ip("-n", name, "link", "set", device, "up"))

    def command(self, host: int, *command: str) -> list[str]:
        """``command`` on a host: its own network, /dev/shm and folder of Ray's session."""
        (self._temp / "ray").mkdir(exist_ok=True)
        mounts = (
            f"mount --bind {self._temp / self._names[host]} {self._temp / 'ray'} && "
            'mount -t tmpfs -o size=2g tmpfs /dev/shm && exec "$@"'
        )
        return ["ip", "netns", "exec", self._names[host], "sh", "-c", mounts, "sh", *command]

    def start(self, host: int, role: str, *more: str) -> None:
        ray = [str(BIN / "ray"), "start", "--block", f"--node-ip-address={ADDRESSES[host]}", "--num-cpus=2"]
        ray += [f"--labels=dualpath-role={role}", "--object-store-memory=100000000", *more]
        log = (self._temp / f"{role}.log").open("wb")
        self._processes.append(subprocess.Popen(self.command(host, *ray), env=self.env, stdout=log, stderr=log))

    def run(self, script: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """A Python script on the first host."""
        command = self.command(0, sys.executable, "-c", script)
        return subprocess.run(
            command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def wait_up(self, num_nodes: int) -> None:
        wait_up(self.run, f"{ADDRESSES[0]}:{PORT}", num_nodes, self._temp)

    def stop(self) -> None:
        end(self._processes)
        for name in self._names:
            ip("netns", "del", name)


def _must(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="dp-h-", ignore_cleanup_errors=True) as temp:
        made = Hosts(Path(temp))
        try:
            made.join()
            made.start(0, "prefill", "--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={temp}/ray")
            made.wait_up(1)
            made.start(1, "decode", f"--address={ADDRESSES[0]}:{PORT}")
            made.wait_up(2)
            yield made
        finally:
            made.stop()


SCRIPT = """
import json, numpy as np
from pathlib import Path
from dualpath_ray import SamplingParams, connect, start
from dualpath_ray.engine.verify import PlainModel

def device():
    return [int(Path(f"/sys/class/net/{device}/statistics/{{way}}_bytes").read_text()) for way in ("rx", "tx")]

with start({config!r}, address={address!r}, max_context_tokens=2048) as system:
    client = connect(system)
    before, prompt, right = device(), np.random.default_rng(0).integers(2, 500, 1500).tolist(), []
    plain = PlainModel(system.plan.description, 0)
    for turn in range(3):
        tokens = client.generate(np.array(prompt), SamplingParams(max_tokens=3, ignore_end=True), "t").result(120)[0].token_ids
        right.append(list(tokens) == plain.generate(prompt, 3))
        prompt += [*tokens, *range(20, 60)]
    after = device()
    nodes = system.status()["nodes"]
    client.close()
moved = {{way: nodes["p0"]["nics"]["p0/cnic0/" + way]["bytes"] for way in ("in", "out")}}
print(json.dumps({{"right": right, "device": [b - a for a, b in zip(before, after)], "moved": moved,
                  "transports": {{name: node["transports"] for name, node in nodes.items()}}}}))
"""


def test_kv_goes_between_hosts_over_their_compute_nic(hosts: Hosts, tmp_path: Path) -> None:
    config = tmp_path / "cluster.yaml"
    config.write_text("prefill_nodes: 1\ndecode_nodes: 1\nmodel: toy-llama-32l\nblock_tokens: 16\nengine: {cpus: 1}\n")
    script = SCRIPT.format(config=str(config), address=f"{ADDRESSES[0]}:{PORT}", device=DEVICE)
    done = hosts.run(script, 300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["right"] == [True] * 3
    for peers in found["transports"].values():
        assert all(why.startswith(("sockets: ", "nixl: ")) for why in peers.values()), found["transports"]
    received, sent = found["device"]
    assert found["moved"]["out"] > 10e6  # three prompts of 1,500 tokens and 8 KiB each
    assert sent >= found["moved"]["out"] and received >= found["moved"]["in"]
