"""A simulated node: its NICs, its DRAM and its buffer. The NICs are the live ones (``traffic/nic.py``)."""

from collections import deque
from collections.abc import Callable
from typing import Any

from dualpath_ray.base.types import Role, TrafficClass, node_name
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.fair_share import FairShare
from dualpath_ray.simulator.spec import ClusterSpec, NodeRates
from dualpath_ray.traffic.nic import Direction, Nic
from dualpath_ray.traffic.nic_queue import NicQueue

_KV = TrafficClass.KV_CACHE


def move(links: tuple[NicQueue, ...], nbytes: int, now_s: float) -> float:
    """When a transfer over several links that arrives now is through the last of them.

    As the live traffic managers do it: each link queues it, and it is over when all are through (``Grant``).
    """
    end_s = now_s
    for link in links:
        end = link.reserve(nbytes, _KV, now_s)[1]
        if end > end_s:
            end_s = end
    return end_s


class SimNode:
    """One logical node. ``free_blocks`` are those of its DRAM buffer."""

    def __init__(self, loop: EventLoop, spec: ClusterSpec, role: Role, index: int, servers: FairShare | None) -> None:
        self._loop = loop
        self.name = node_name(role, index)
        self.role = role
        charged = not spec.oracle
        rates = spec.rates
        self.snic = Nic(f"{self.name}/snic", rates.snic_in, rates.snic_out, charged)
        self.cnics = [Nic(f"{self.name}/cnic{i}", rates.cnic, rates.cnic, charged) for i in range(spec.engines)]
        self.dram = NicQueue(f"{self.name}/dram", rates.dram, charged)
        self.h2d_links = [self._h2d_links(i, rates) for i in range(spec.engines)]
        self.free_blocks = spec.pe_blocks if role is Role.PREFILL else spec.de_blocks
        self.read_queue_tokens = 0
        self.read_bytes = 0
        self.read_spans: list[list[float]] = []  # [asked, done, bytes] of spans with reads outstanding
        self._snic_in, self._snic_out = self.snic[Direction.IN], self.snic[Direction.OUT]
        self._to_dram = (self._snic_in, self.dram)
        self._servers = servers if charged else None
        self._queued: deque[tuple[int, Callable[[Any], None], Any]] = deque()
        self._lease_queue: deque[tuple[int, Callable[[Any], None], Any]] = deque()

    def _h2d_links(self, engine: int, rates: NodeRates) -> tuple[NicQueue, ...]:
        """What a copy between this node's DRAM and an engine's HBM crosses; nothing where both are memory of a CPU."""
        cnic = self.cnics[engine]
        return (cnic[Direction.OUT], cnic[Direction.IN], self.dram) if rates.loopback else ()

    # storage ---------------------------------------------------------------------------------------------------------

    def read(self, nbytes: int, call: Callable[[Any], None], argument: Any) -> None:
        """Read from storage into the buffer, behind what was asked for before; ``call(argument)`` at its end."""
        if self._servers is None:
            now = self._loop.now_s
            end_s = move(self._to_dram, nbytes, now)
            self._span(now, end_s, nbytes)
            self._loop.at(end_s, call, argument)
            return
        self._queued.append((nbytes, call, argument))
        if len(self._queued) == 1:
            self._read_next()

    def write(self, nbytes: int) -> float:
        """Write to storage behind what is being written. Returns: when it is through."""
        return move((self._snic_out, self.dram), nbytes, self._loop.now_s)

    def _read_next(self) -> None:
        assert self._servers is not None
        nbytes, call, argument = self._queued[0]
        asked = self._loop.now_s
        self._servers.start(nbytes, self._on_read, (nbytes, asked, call, argument))

    def _on_read(self, read: tuple[int, float, Callable[[Any], None], Any]) -> None:
        nbytes, asked, call, argument = read
        now = self._loop.now_s
        self._queued.popleft()
        rate = self._snic_in.rate_bytes_per_s
        self._snic_in.count(nbytes, nbytes / rate if rate else 0.0, _KV)  # the servers' time is not its own
        end_s = self.dram.reserve(nbytes, _KV, now)[1]
        self._span(asked, end_s, nbytes)
        if self._queued:
            self._read_next()
        if end_s > now:
            self._loop.at(end_s, call, argument)
        else:
            call(argument)

    def _span(self, asked_s: float, done_s: float, nbytes: int) -> None:
        self.read_bytes += nbytes
        spans = self.read_spans
        if spans and asked_s <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], done_s)
            spans[-1][2] += nbytes
        else:
            spans.append([asked_s, done_s, nbytes])

    # the buffer ------------------------------------------------------------------------------------------------------

    def lease(self, num_blocks: int, call: Callable[[Any], None], argument: Any) -> None:
        """Take blocks of the buffer, first come first served; ``call(argument)`` once they are there."""
        if not self._lease_queue and num_blocks <= self.free_blocks:
            self.free_blocks -= num_blocks
            call(argument)
        else:
            self._lease_queue.append((num_blocks, call, argument))

    def release(self, num_blocks: int) -> None:
        """Give blocks back; whoever waited longest gets them."""
        self.free_blocks += num_blocks
        queue = self._lease_queue
        while queue and queue[0][0] <= self.free_blocks:
            wanted, call, argument = queue.popleft()
            self.free_blocks -= wanted
            call(argument)
