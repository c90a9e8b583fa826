"""NIXL's copies between two nodes go over the compute NIC, all of them, by the agents of their class.

UCX is held to TCP: these machines have no RDMA, and its TCP marks no packets, so the ports of agents tell classes apart.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netlab.lab import CNIC, HIGH, LOW, SNIC, Lab, lab, why_not
from tests.ray.nodes import ROOT
from tests.unit.transport.two_agents import MARKS

REASON = why_not()
pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(REASON is not None, reason=str(REASON))]

SIZE = 64 << 20


def start(network: Lab, index: int, *arguments: str) -> "subprocess.Popen[str]":
    command = network.inside(index, sys.executable, "-m", "tests.netlab.nixl_node", *arguments)
    env = {
        **os.environ,
        "UCX_TLS": "tcp,self",
    }  # one kernel, so UCX takes both for one host and would copy through memory
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def copies() -> Iterator[tuple[list[dict[str, Any]], dict[str, int]]]:
    """What each copy moved, of each class in either direction, and the bytes that each lane of the driving node has sent."""
    pytest.importorskip("nixl", reason="nixl is not installed")
    system = f"test-{os.getpid()}-{secrets.token_hex(4)}"
    with lab(2) as network:
        holds = start(network, 2, "hold", system, CNIC, str(SIZE))
        drives = start(network, 1, "drive", system, CNIC, str(SIZE), CNIC, SNIC)
        try:
            assert holds.stdout is not None
            said, _ = drives.communicate(holds.stdout.readline(), timeout=90)
            assert drives.returncode == 0
            holds.communicate(timeout=30)
            yield [json.loads(line) for line in said.splitlines()], network.sent_bytes(1)
        finally:
            for process in (drives, holds):
                process.kill()
                process.wait(20)


def test_copies_of_every_class_are_on_the_compute_nic_and_on_no_other(copies: Any) -> None:
    told, _ = copies
    assert len(told) == 2 * len(MARKS)
    for copy in told:
        way, back = ("tx", "rx") if copy["write"] else ("rx", "tx")
        assert SIZE <= copy["devices"][f"{CNIC}/{way}"] <= 1.05 * SIZE
        others = (f"{CNIC}/{back}", f"{SNIC}/rx", f"{SNIC}/tx")
        assert sum(copy["devices"][each] for each in others) < 0.05 * SIZE


def test_each_class_has_connections_of_its_own(copies: Any) -> None:
    """By what was received and acknowledged on them; the last acknowledgements may be late."""
    for copy in copies[0]:
        for traffic_class, moved in copy["agents"].items():
            assert 0.95 * SIZE < moved < 1.05 * SIZE if traffic_class == copy["class"] else moved < 0.01 * SIZE


def test_what_nobody_marks_goes_in_the_low_lane(copies: Any) -> None:
    """As all KV must that does not say what it is: the high lane is model execution's."""
    _, sent = copies
    assert sent[HIGH] == 0 and sent[LOW] >= len(MARKS) * SIZE
