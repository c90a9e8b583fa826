"""Nodes on two hosts: network namespaces joined by cables, each with a /dev/shm of its own, so that only TCP leads across.

Each host has three devices, as in a cluster: one for Ray, a storage NIC and a compute NIC. The kernel counts their bytes.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ray.nodes import BIN, ROOT, cluster_environment, end, wait_up

CABLES = {"eth0": "198.18.7", "snic0": "198.18.8", "cnic0": "198.18.9"}  # of a range for tests of networks
ADDRESSES = tuple(f"{CABLES['eth0']}.{host}" for host in (1, 2))
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
        # one kernel, so UCX takes both for one host and would copy through memory
        self.env = {**cluster_environment(), "UCX_TLS": "tcp,self"}

    def join(self) -> None:
        """The cables between the two."""
        for name in self._names:
            _must(ip("netns", "add", name))
            _must(ip("-n", name, "link", "set", "lo", "up"))
            (self._temp / name).mkdir()
        one, other = self._names
        for device, network in CABLES.items():
            _must(ip("link", "add", device, "netns", one, "type", "veth", "peer", "name", device, "netns", other))
            for host, name in enumerate(self._names, 1):
                _must(ip("-n", name, "addr", "add", f"{network}.{host}/24", "dev", device))
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

    def start_beside(self, host: int, role: str) -> "subprocess.Popen[bytes]":
        """Another Ray node on a host: in its network, and with its /dev/shm."""
        inside = ["nsenter", "-t", str(self._processes[host].pid), "-m", "-n", "--"]
        ray = [str(BIN / "ray"), "start", "--block", f"--address={ADDRESSES[0]}:{PORT}", "--num-cpus=2"]
        ray += [f"--node-ip-address={ADDRESSES[host]}", f"--labels=dualpath-role={role}"]
        log = (self._temp / f"beside-{role}.log").open("wb")
        self._processes.append(
            subprocess.Popen([*inside, *ray, "--object-store-memory=100000000"], env=self.env, stdout=log, stderr=log)
        )
        return self._processes[-1]

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


@pytest.fixture(scope="module")
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

def counted():
    ways = [(device, way) for device in {devices!r} for way in ("rx", "tx")]
    return {{d + "/" + w: int(Path(f"/sys/class/net/{{d}}/statistics/{{w}}_bytes").read_text()) for d, w in ways}}

with start({config!r}, address={address!r}, max_context_tokens=1024) as system:
    client = connect(system)
    before, prompt, right = counted(), np.random.default_rng(0).integers(2, 500, 800).tolist(), []
    plain, params = PlainModel(system.plan.description, 0), SamplingParams(max_tokens=3, ignore_end=True)
    for turn in range(3):
        asked = [client.generate(np.array(prompt), params, name) for name in {names!r}]
        tokens = plain.generate(prompt, 3)
        right.append(all(list(answer.result(120)[0].token_ids) == tokens for answer in asked))
        prompt += [*tokens, *range(20, 60)]
    after = counted()
    status = system.status()
    client.close()
print(json.dumps({{"right": right, "device": {{name: after[name] - before[name] for name in after}},
                  "nodes": status["nodes"], "storage": status["storage"][0]["address"]}}))
"""


@dataclass(frozen=True)
class Found:
    """After three turns of one trajectory for each decode node, whose context is 800 tokens of 8 KiB."""

    nodes: dict[str, Any]  # status
    device: dict[str, int]  # bytes of the first host's devices, by ``eth0/rx``
    storage: str  # address of the storage node

    def moved(self, nic: str, way: str) -> int:
        """Bytes by our own count."""
        return int(self._row(nic, way)["bytes"])

    def carried(self, nic: str, way: str) -> float:
        """Bytes of these that were on its device, whose link they kept busy."""
        row = self._row(nic, way)
        return float(row["busy_s"] * row["rate_bytes_per_s"])

    def _row(self, nic: str, way: str) -> dict[str, Any]:
        row: dict[str, Any] = self.nodes[nic.partition("/")[0]]["nics"][f"{nic}/{way}"]
        return row

    def both_ways(self, device: str) -> int:
        return self.device[f"{device}/rx"] + self.device[f"{device}/tx"]

    @property
    def far_from_storage(self) -> list[str]:
        """The nodes whose reads and writes cross a cable."""
        transports = self.nodes["p0"]["transports"]
        here = {"p0", *(peer for peer, why in transports.items() if why.startswith("shared_memory: "))}
        return sorted(set(self.nodes) - here if self.storage.endswith(".1") else here)

    @property
    def storage_bytes(self) -> int:
        """That crossed a cable, by our own count."""
        return sum(self.moved(f"{node}/snic", way) for node in self.far_from_storage for way in ("in", "out"))

    @property
    def copied_bytes(self) -> int:
        """Between the pools, by our own count."""
        return sum(self.moved("p0/cnic0", way) for way in ("in", "out"))


def run_on(hosts: Hosts, config: Path, node: dict[str, str], decode_nodes: int = 1, **more: Any) -> Found:
    """Three turns on one prefill and some decode nodes; both sides read, and blocks come from the storage node."""
    values = {
        **{
            "prefill_nodes": 1,
            "decode_nodes": decode_nodes,
            "model": "toy-llama-32l",
            "block_tokens": 16,
            "engine": {"cpus": 1},
        },
        **{"node": node, "storage": {"access": "network"}, "scheduler": {"read_path": "round_robin"}, **more},
        "profile": {"s_per_flop": 1e-9, "overhead_s": 0.01, "prompt_tokens_per_s": 1e4, "new_tokens_per_s": 1e3},
    }
    config.write_text(yaml.safe_dump(values))
    address = f"{ADDRESSES[0]}:{PORT}"
    names = ["t", "u"][:decode_nodes]
    script = SCRIPT.format(config=str(config), address=address, devices=tuple(CABLES), names=names)
    done = hosts.run(script, 300)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["right"] == [True] * 3
    found = Found(told["nodes"], told["device"], told["storage"])
    assert found.copied_bytes > 10e6 and found.storage_bytes > 5e6
    return found


def test_reads_go_over_the_storage_nic_and_nixls_copies_over_the_compute_nic(hosts: Hosts, tmp_path: Path) -> None:
    pytest.importorskip("nixl", reason="nixl is not installed")
    more = {"transport": "nixl", "fabric": {"kind": "infiniband"}}  # of which UCX's TCP knows nothing
    found = run_on(hosts, tmp_path / "two.yaml", {"snic": "snic0", "cnic": "cnic0"}, **more)
    assert found.device["cnic0/tx"] >= found.moved("p0/cnic0", "out")
    assert found.device["cnic0/rx"] >= found.moved("p0/cnic0", "in")
    assert found.both_ways("snic0") >= found.storage_bytes
    for device, expected in (("cnic0", found.copied_bytes), ("snic0", found.storage_bytes)):
        assert found.both_ways(device) < 1.2 * expected, f"{device} carries its own bytes and no others"
    assert found.both_ways("eth0") < 0.25 * min(found.copied_bytes, found.storage_bytes), "no KV goes Ray's way"
    for name, node in found.nodes.items():
        for row, nic in node["nics"].items():
            assert nic["device"] == ("snic0" if row.startswith(f"{name}/snic") else "cnic0")
            assert nic["rate_bytes_per_s"] and not nic["emulated"], "the link's own"
            assert found.carried(*row.rsplit("/", 1)) == pytest.approx(nic["bytes"])


def test_sockets_can_share_a_device_with_the_reads_and_it_is_said(hosts: Hosts, tmp_path: Path) -> None:
    found = run_on(hosts, tmp_path / "one.yaml", {"snic": "cnic0", "cnic": "cnic0"}, transport="sockets")
    assert found.both_ways("cnic0") >= found.copied_bytes + found.storage_bytes
    assert found.both_ways("snic0") < 0.01 * found.both_ways("cnic0")
    assert all(
        node["devices"]["both"].startswith("cnic0 is storage NIC and compute NIC") for node in found.nodes.values()
    )


def test_kv_that_leaves_the_host_goes_over_the_device_of_the_nodes_address(hosts: Hosts, tmp_path: Path) -> None:
    """Unless another is named. One decode node is beside the prefill node, with which it shares memory."""
    beside = hosts.start_beside(0, "decode")
    hosts.wait_up(3)
    found = run_on(hosts, tmp_path / "auto.yaml", {}, decode_nodes=2, engine={"cpus": 2})  # so that one is on each host
    beside.terminate()
    ways = [why.partition(":")[0] for why in found.nodes["p0"]["transports"].values()]
    assert ways.count("shared_memory") == 1
    for way, counted in (("out", "tx"), ("in", "rx")):
        assert 0 < found.carried("p0/cnic0", way) < found.moved("p0/cnic0", way)
        assert found.device[f"eth0/{counted}"] >= found.carried("p0/cnic0", way)
    for far in found.far_from_storage:
        why = f"eth0, the route to the storage node at {found.storage} goes by it"
        assert found.nodes[far]["devices"][f"{far}/snic"] == why
    carried = sum(found.carried("p0/cnic0", way) for way in ("in", "out"))
    assert found.both_ways("eth0") < 1.5 * (carried + found.storage_bytes), "memory that is shared is on no device"
    assert found.both_ways("snic0") + found.both_ways("cnic0") < 0.01 * found.both_ways("eth0")


def test_a_device_that_only_some_hosts_have_is_one_sentence(hosts: Hosts, tmp_path: Path) -> None:
    """The driver's machine does not check what other hosts have: they say it themselves."""
    config = tmp_path / "wrong.yaml"
    config.write_text("prefill_nodes: 1\ndecode_nodes: 1\nmodel: toy-llama\nengine: {cpus: 1}\nnode: {snic: eth9}\n")
    script = f"from dualpath_ray import start\nstart({str(config)!r}, address='{ADDRESSES[0]}:{PORT}')"
    done = hosts.run(script, 120)
    assert done.returncode
    said = done.stderr.strip().splitlines()[-1]
    assert f"{config}: node.snic: the host of " in said and " has no network device eth9; it has cnic0 (" in said
