"""A network of nodes on one machine: namespaces whose storage and compute NICs the kernel shapes, the latter in two lanes.

    one namespace a node     snic0  198.18.21.i, one lane       cnic0  198.18.22.i, two lanes by DSCP
                             mgmt0  198.18.23.i, not shaped: control traffic, Ray's and ours
    one for the switches     a bridge for all snic0, one for all cnic0, one for all mgmt0

Every other cable is shaped at both of its ends, so that two senders to one node meet at the switch's port. DSCP 46 (model
execution) has the high lane and its share of the link; everything else has the low one, and the rest, and what the high one
leaves. Nothing is added outside of these namespaces, and nothing leads out of them.

As a script, ``python -m tests.netlab.lab up|down``, it leaves a lab standing to look around in.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SNIC, CNIC, MGMT = "snic0", "cnic0", "mgmt0"
NETWORKS = {SNIC: "198.18.21", CNIC: "198.18.22", MGMT: "198.18.23"}  # of a range for tests of networks
HIGH, LOW = "1:10", "1:20"  # classes of a compute NIC
HIGH_TOS = 46 << 2
_SENT = re.compile(r"class htb (\S+) [^\n]*\n Sent (\d+) bytes")
_MTU, _GSO = 9000, 65536
_QUEUE_S = 0.005
_LEAST_QUEUE_BYTES, _LEAST_BURST_BYTES = 256 << 10, 64 << 10


@dataclass(slots=True)
class Lab:
    """Rates are Mbit/s, of each direction; ``high_percent`` of a compute NIC is the high lane's while both are full."""

    num_nodes: int
    snic_mbit: int = 400
    cnic_mbit: int = 2000
    high_percent: int = 99
    name: str = field(default_factory=lambda: f"dp{secrets.token_hex(2)}")

    def node(self, index: int) -> str:
        """Namespace of a node, counted from 1."""
        return f"{self.name}n{index}"

    @property
    def switches(self) -> str:
        return f"{self.name}sw"

    def address(self, nic: str, index: int) -> str:
        return f"{NETWORKS[nic]}.{index}"

    def up(self) -> None:
        """Raises: RuntimeError with what the kernel said; nothing is left standing then."""
        try:
            self._add(self.switches)
            for nic in NETWORKS:
                _ip("-n", self.switches, "link", "add", f"b{nic}", "type", "bridge", "forward_delay", "0")
                _ip("-n", self.switches, "link", "set", f"b{nic}", "mtu", str(_MTU), "up")
            for index in range(1, self.num_nodes + 1):
                self._add(self.node(index))
                for nic in NETWORKS:
                    self._plug(index, nic)
        except BaseException:
            self.down()
            raise

    def _add(self, namespace: str) -> None:
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")

    def _plug(self, index: int, nic: str) -> None:
        node, port = self.node(index), f"{nic[0]}{index}"
        _ip("link", "add", nic, "netns", node, "type", "veth", "peer", "name", port, "netns", self.switches)
        for namespace, device in ((node, nic), (self.switches, port)):
            _ip("-n", namespace, "link", "set", device, "mtu", str(_MTU), "gso_max_size", str(_GSO))
        _ip("-n", self.switches, "link", "set", port, "master", f"b{nic}", "up")
        _ip("-n", node, "addr", "add", f"{self.address(nic, index)}/24", "dev", nic)
        _ip("-n", node, "link", "set", nic, "up")
        for namespace, device in ((node, nic), (self.switches, port)) if nic != MGMT else ():
            self._shape(namespace, device, self.snic_mbit if nic == SNIC else self.cnic_mbit, lanes=nic == CNIC)

    def _shape(self, namespace: str, device: str, mbit: int, lanes: bool) -> None:
        def classed(parent: str, child: str, rate_kbit: int, more: str = "") -> str:
            ceiling = f"ceil {mbit}mbit burst {burst} cburst {burst} quantum 60000"
            return f"class add dev {device} parent {parent} classid {child} htb rate {rate_kbit}kbit {ceiling} {more}"

        burst = max(_LEAST_BURST_BYTES, mbit * 125 // 4)
        limit = max(_LEAST_QUEUE_BYTES, int(mbit * 125_000 * _QUEUE_S))
        high = mbit * 10 * self.high_percent
        lines = [f"qdisc add dev {device} root handle 1: htb default 20", classed("1:", "1:1", mbit * 1000)]
        if lanes:
            lines.append(classed("1:1", HIGH, high, "prio 0"))
            lines.append(f"qdisc add dev {device} parent {HIGH} handle 10: bfifo limit {limit}")
            match = f"match ip dsfield {HIGH_TOS:#x} 0xfc"
            lines.append(f"filter add dev {device} parent 1: protocol ip prio 1 u32 {match} flowid {HIGH}")
        lines.append(classed("1:1", LOW, mbit * 1000 - high if lanes else mbit * 1000, "prio 7"))
        lines.append(f"qdisc add dev {device} parent {LOW} handle 20: bfifo limit {limit}")
        _run(["ip", "netns", "exec", namespace, "tc", "-b", "-"], "\n".join(lines) + "\n")

    def unshape(self, index: int, nic: str) -> None:
        """Let one node's NIC be as fast as it is, in both directions."""
        for namespace, device in ((self.node(index), nic), (self.switches, f"{nic[0]}{index}")):
            _run(["ip", "netns", "exec", namespace, "tc", "qdisc", "del", "dev", device, "root"])

    def inside(self, index: int, *command: str) -> list[str]:
        """``command`` on a node."""
        return ["ip", "netns", "exec", self.node(index), *command]

    def sent_bytes(self, index: int, nic: str = CNIC) -> dict[str, int]:
        """Bytes that each lane of a node's NIC has sent, headers included."""
        told = _run(self.inside(index, "tc", "-s", "class", "show", "dev", nic))
        return {lane: int(sent) for lane, sent in _SENT.findall(told) if lane in (HIGH, LOW)}

    def device_bytes(self, index: int, nic: str) -> tuple[int, int]:
        """(received, sent) by a node's NIC, headers included."""
        path = f"/sys/class/net/{nic}/statistics"
        told = _run(self.inside(index, "cat", f"{path}/rx_bytes", f"{path}/tx_bytes"))
        received, sent = map(int, told.split())
        return received, sent

    def down(self) -> None:
        """Processes inside must have ended."""
        for namespace in (self.switches, *(self.node(index) for index in range(1, self.num_nodes + 1))):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=20, check=False)


@contextmanager
def lab(num_nodes: int, **rates: int) -> Iterator[Lab]:
    """A lab for a while."""
    made = Lab(num_nodes, **rates)
    made.up()
    try:
        yield made
    finally:
        made.down()


def why_not() -> str | None:
    """Why no lab can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("tc") is None:
        return "no network namespaces here: needs root and iproute2"
    try:
        with lab(1):
            return None
    except RuntimeError as error:
        return f"no network namespaces here: {error}"


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    standing = Lab(4, name="dplab")
    if sys.argv[1:] == ["up"]:
        standing.up()
        print("up: ip netns exec dplabn1 ip addr shows a node; python -m tests.netlab.lab down takes it down")
    elif sys.argv[1:] == ["down"]:
        standing.down()
    else:
        sys.exit("usage: python -m tests.netlab.lab up|down")
