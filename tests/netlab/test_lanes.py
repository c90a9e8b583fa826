"""Two lanes of a compute NIC in the kernel: shares by its own counters, round trips by medians; no absolute times."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netlab.lab import CNIC, HIGH, HIGH_TOS, LOW, Lab, lab, why_not

REASON = why_not()
pytestmark = [pytest.mark.timing, pytest.mark.timeout(180), pytest.mark.skipif(REASON is not None, reason=str(REASON))]

FLOW = Path(__file__).with_name("flow.py")
PORT = 7000
WARM_S, WINDOW_S = 1.0, 4.0
LOW_TOS = 26 << 2


@pytest.fixture(scope="module")
def network() -> Iterator[Lab]:
    with lab(2, cnic_mbit=1000) as made:
        sink = subprocess.Popen(
            made.inside(2, sys.executable, str(FLOW), "sink", made.address(CNIC, 2), str(PORT)), stdout=subprocess.PIPE
        )
        try:
            assert sink.stdout is not None and sink.stdout.readline() == b"ready\n"
            yield made
        finally:
            sink.kill()
            sink.wait(20)


def start(network: Lab, what: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, str(FLOW), what, network.address(CNIC, 2), str(PORT), *map(str, arguments)]
    return subprocess.Popen(network.inside(1, *command), stdout=subprocess.PIPE, text=True)


def rates(network: Lab, senders: "list[subprocess.Popen[str]]") -> dict[str, float]:
    """Bytes per second that the node sent within a window, by lane."""
    time.sleep(WARM_S)
    before, began = network.sent_bytes(1), time.monotonic()
    time.sleep(WINDOW_S)
    after, ended = network.sent_bytes(1), time.monotonic()
    for sender in senders:
        assert sender.wait(60) == 0
    return {each: (after[each] - before[each]) / (ended - began) for each in (HIGH, LOW)}


def ping(network: Lab, tos: int, count: int = 600) -> float:
    said, _ = start(network, "ping", tos, count).communicate(timeout=120)
    return float(said)


SENDING_S = WARM_S + WINDOW_S + 1.0


def test_the_high_lane_keeps_its_share_and_the_low_one_is_not_starved(network: Lab) -> None:
    found = rates(network, [start(network, "send", tos, SENDING_S) for tos in (HIGH_TOS, HIGH_TOS, LOW_TOS, LOW_TOS)])
    link = found[HIGH] + found[LOW]
    assert found[HIGH] >= 0.97 * link and found[LOW] >= 0.005 * link


def test_the_low_lane_takes_what_the_high_one_leaves(network: Lab) -> None:
    link = rates(network, [start(network, "send", LOW_TOS, SENDING_S)])[LOW]
    half = start(network, "send", HIGH_TOS, SENDING_S, link / 2)
    found = rates(network, [half, start(network, "send", LOW_TOS, SENDING_S)])
    assert 0.4 * link <= found[HIGH] <= 0.6 * link
    assert found[LOW] >= 0.9 * (link - found[HIGH])


def test_a_small_message_of_the_high_lane_does_not_wait_behind_the_low_ones_bytes(network: Lab) -> None:
    alone = ping(network, HIGH_TOS)
    filling = [start(network, "send", LOW_TOS, 60) for _ in range(2)]
    try:
        time.sleep(WARM_S)
        high, low = ping(network, HIGH_TOS), ping(network, LOW_TOS, 200)
    finally:
        for sender in filling:
            sender.kill()
            sender.wait(20)
    assert high <= 3 * alone, f"high {high * 1e6:.0f} us, alone {alone * 1e6:.0f} us"
    assert low >= 5 * alone, f"low {low * 1e6:.0f} us, alone {alone * 1e6:.0f} us"
