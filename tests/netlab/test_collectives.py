"""Collectives of two nodes beside KV that fills the compute NICs in both directions: in a lane of their own, and in KV's."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.netlab.lab import CNIC, HIGH_TOS, Lab, lab, why_not
from tests.ray.nodes import ROOT

REASON = why_not()
pytestmark = [
    pytest.mark.timing,
    pytest.mark.timeout(240),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

FLOW = Path(__file__).with_name("flow.py")
PORT, WARM_S = 7000, 1.0
BURST_BYTES, BURSTS = 64 << 10, 150


def flow(network: Lab, index: int, *arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(FLOW), *map(str, arguments)]
    return subprocess.Popen(network.inside(index, *command), stdout=subprocess.PIPE)


@contextmanager
def ended(*processes: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(20)


@pytest.fixture(scope="module")
def network() -> Iterator[Lab]:
    with lab(2, cnic_mbit=1000) as made:
        sinks = [flow(made, index, "sink", made.address(CNIC, index), PORT) for index in (1, 2)]
        with ended(*sinks):
            for sink in sinks:
                assert sink.stdout is not None and sink.stdout.readline() == b"ready\n"
            yield made


def burst_s(network: Lab, tos: int, with_kv: bool) -> float:
    """The median burst of a group, 64 KiB there and back."""
    module = [sys.executable, "-m", "tests.netlab.group_node"]
    host, more = network.address(CNIC, 1), [CNIC, str(tos), str(BURST_BYTES), str(BURSTS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": ROOT}
    first = subprocess.Popen(network.inside(1, *module, "open", host, *more), **pipes)
    with ended(first):
        port = first.stdout.readline().decode().strip()
        second = subprocess.Popen(network.inside(2, *module, "join", host, port, *more), **pipes)
        with ended(second):
            assert second.stdout.readline() == b"joined\n"
            kv = [flow(network, i, "send", network.address(CNIC, 3 - i), PORT, 0, 120) for i in (1, 2) if with_kv]
            with ended(*kv):
                time.sleep(WARM_S)
                first.stdin.write(b"begin\n")
                first.stdin.flush()
                return float(first.stdout.readline())


def test_kv_slows_collectives_in_its_own_lane_and_not_in_theirs(network: Lab) -> None:
    alone, apart, together = (
        burst_s(network, tos, with_kv) for tos, with_kv in ((HIGH_TOS, False), (HIGH_TOS, True), (0, True))
    )
    print(f"a burst of 64 KiB: {alone * 1e3:.2f} ms; beside KV {apart * 1e3:.2f}, in KV's lane {together * 1e3:.2f} ms")
    assert apart <= 3 * alone and together >= 5 * alone
