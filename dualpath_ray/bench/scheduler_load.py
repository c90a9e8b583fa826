"""Groups of engines that only count: what a scheduler sees of a system of any size. Pure."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.scheduler.state import (
    Decision,
    DecodeLoad,
    EngineLoad,
    FetchLimits,
    GroupReport,
    NicLoad,
    NodeLoad,
    PrefillLoad,
    Request,
)

BETA_TOKENS = 10_000_000
HBM_TOKENS = 1_200_000  # of a decode engine: some 36 contexts
BUFFER_TOKENS = 2**40
TOKEN_BYTES = 70_000
_PAYLOAD: dict[str, object] = {}  # there is one, as in a live request, but without tokens
LIMITS = FetchLimits(2_000_000, BETA_TOKENS, token_bytes=TOKEN_BYTES, block_tokens=64)


def requests() -> Iterator[Request]:
    """Turns of agents without end: contexts of some 33,000 tokens, of which nearly all is a hit (Table 2, 64K)."""
    rng = np.random.default_rng(0)
    number = 0
    while True:
        prompts, news = rng.integers(2_000, 64_000, 4096).tolist(), rng.integers(20, 400, 4096).tolist()
        for prompt, new in zip(prompts, news, strict=True):
            number += 1
            yield Request(f"r{number}", 1, f"t{number}", prompt, int(prompt * 0.987), new, payload=_PAYLOAD)


class CountingGroup:
    """The leader of a group: takes decisions, ends requests when told to, and reports."""

    def __init__(self, group_id: str, role: Role, gpus: int) -> None:
        self.group_id, self.role = group_id, role
        self.running: deque[tuple[Request, Decision]] = deque()
        self._loads = {f"{group_id}/e{i}": [0, 0] for i in range(gpus)}  # seq_e and tok_e
        self._finished: list[str] = []
        self._seen = self._number = self._read_tokens = 0
        self._nics = tuple(NicLoad(f"{group_id}/nic{i}", 4e10, 0.8) for i in range(gpus + 1))

    def take(self, found: Iterable[tuple[Request, Decision]]) -> int:
        """Start what has not been started yet. Returns: how many requests that is."""
        fresh = [(request, decision) for request, decision in found if decision.seq > self._seen]
        for request, decision in fresh:
            self._seen = decision.seq
            self.running.append((request, decision))
            self._add(request, decision, 1)
            mine = ReadPath.PE if self.role is Role.PREFILL else ReadPath.DE
            self._read_tokens += request.hit_tokens if decision.read_path is mine else 0
        return len(fresh)

    def finish(self, most: int) -> int:
        """End the oldest requests. Returns: how many."""
        count = min(most, len(self.running))
        for _ in range(count):
            request, decision = self.running.popleft()
            self._add(request, decision, -1)
            self._finished.append(request.request_id)
        return count

    def report(self) -> GroupReport:
        """What a leader tells after a batch; reads are over by then."""
        node = NodeLoad(self.group_id, 0, self._read_tokens * TOKEN_BYTES, True, BUFFER_TOKENS, self._nics)
        loads: list[EngineLoad] = []
        for name, (count, tokens) in self._loads.items():
            if self.role is Role.PREFILL:
                loads.append(PrefillLoad(name, count, tokens))
            else:
                loads.append(DecodeLoad(name, count, tokens, HBM_TOKENS - tokens))
        self._number += 1
        finished, self._finished = tuple(self._finished), []
        return GroupReport(self.group_id, self.role, node, tuple(loads), self._seen, finished, self._number)

    def _add(self, request: Request, decision: Decision, sign: int) -> None:
        is_prefill = self.role is Role.PREFILL
        load = self._loads[decision.prefill_engine if is_prefill else decision.decode_engine]
        load[0] += sign
        load[1] += sign * (request.prompt_tokens if is_prefill else request.total_tokens)


def groups(prefill_nodes: int, decode_nodes: int, gpus: int) -> list[CountingGroup]:
    """Every group of a system, idle."""
    prefill = [CountingGroup(f"p{i}", Role.PREFILL, gpus) for i in range(prefill_nodes)]
    return prefill + [CountingGroup(f"d{i}", Role.DECODE, gpus) for i in range(decode_nodes)]
