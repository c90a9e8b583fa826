"""``dualpath bench scheduler`` through the scheduler's actor: leaders of all groups in a process of their own.

The caller leads one group more and takes its times: of fetches, and of empty calls in turn with them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heapreplace
from itertools import islice
from typing import Any

import numpy as np
import ray

from dualpath_ray.base.packed import PackedList
from dualpath_ray.base.types import Role
from dualpath_ray.bench.scheduler_load import LIMITS, CountingGroup, groups, requests
from dualpath_ray.cluster.placement import RaySession
from dualpath_ray.scheduler.actor import scheduler_actor

ANSWER_S = 60.0  # a call that takes longer ends the benchmark
FINISHED = 32  # requests that have ended in a decode group between two of its fetches
SUBMITTED = 64  # requests of a submit
_IN_FLIGHT = 24  # calls at a time, when nothing but the scheduler limits their rate
_PROBE_INTERVAL_S = 0.004


@dataclass(frozen=True, slots=True)
class Rate:
    """How often a running system calls: each leader and each client once a fetch interval (``engine/group.py``)."""

    turns_per_s: float
    interval_s: float
    num_clients: int  # that submit the turns between them
    prefill_s: float  # for which a request is at its prefill engine
    decode_s: float


@dataclass(frozen=True, slots=True)
class ActorFigures:
    """What was measured through the actor. ``calls_per_s`` without those of the caller that took the times."""

    assignments_per_s: float
    fetch_p99_s: float
    empty_call_p99_s: float
    fetch_p50_s: float
    empty_call_p50_s: float
    cores: float  # of the scheduler's process
    calls_per_s: float
    num_fetches: int  # that were timed, and as many empty calls


class _Leaders:
    """The leaders of all groups but one, and the clients."""

    def __init__(self, scheduler: Any, system: tuple[int, int, int], probed: str) -> None:
        self._scheduler = scheduler
        self._groups = [group for group in groups(*system) if group.group_id != probed]
        self._source = requests()
        self._num_calls = 0

    def ready(self) -> None:
        """Every group has reported."""
        self._get([self._scheduler.report.remote(group.report()) for group in self._groups])

    def fill(self, num_waiting: int) -> None:
        """Submit until the engines are full and so many requests wait."""
        while (missing := num_waiting - self._get(self._scheduler.status.remote())["num_waiting"]) > 0:
            self._get([self._submit(min(1024, missing - i)) for i in range(0, missing, 1024)])
        for some in _chunks(self._groups, _IN_FLIGHT):
            self._fetch(some)

    def saturate(self, seconds: float) -> tuple[float, float]:
        """Fetch without a pause, for half of the groups while the other half takes in its answers.

        Returns: assignments and calls a second.
        """
        start, taken, self._num_calls = time.perf_counter(), 0, 0
        under_way: deque[tuple[list[CountingGroup], list[Any]]] = deque()
        size = max(1, min(_IN_FLIGHT, len(self._groups) // 2))
        while (elapsed := time.perf_counter() - start) < seconds:
            for some in _chunks(self._groups, size):
                ended = 0
                for group in some:
                    count = group.finish(FINISHED if group.role is Role.DECODE else len(group.running))
                    ended += count if group.role is Role.DECODE else 0
                submits = [self._submit(min(SUBMITTED, ended - i)) for i in range(0, ended, SUBMITTED)]
                under_way.append((some, submits + self._ask(some)))
                if len(under_way) > 1:
                    taken += self._take(*under_way.popleft())
        return taken / elapsed, self._num_calls / elapsed

    def pace(self, seconds: float, rate: Rate) -> tuple[float, float]:
        """Call as a running system does. Returns: assignments and calls a second."""
        stay_s = {Role.PREFILL: rate.prefill_s, Role.DECODE: rate.decode_s}
        rng = np.random.default_rng(1)
        start = time.perf_counter()
        due = [(start + rng.uniform(0, rate.interval_s), index, group) for index, group in enumerate(self._groups)]
        heapify(due)
        arrived = {  # what runs already came one after another, too
            group.group_id: deque(sorted(start - rng.uniform(0, stay_s[group.role], len(group.running))))
            for group in self._groups
        }
        client_s = rate.interval_s / rate.num_clients  # from one client's call to the next one's
        taken = submitted = num_submits = self._num_calls = 0
        while (elapsed := time.perf_counter() - start) < seconds:
            now = start + elapsed
            some: list[CountingGroup] = []
            while due[0][0] <= now and len(some) < _IN_FLIGHT:
                at, index, group = due[0]
                heapreplace(due, (max(at + rate.interval_s, now), index, group))
                some.append(group)
            for group in some:
                times = arrived[group.group_id]
                while times and times[0] <= now - stay_s[group.role]:
                    times.popleft()
                    group.finish(1)
            sent = []
            while num_submits * client_s <= elapsed:
                num_submits += 1
                count = round(num_submits * client_s * rate.turns_per_s) - submitted
                if count:
                    sent.append(self._submit(count))
                    submitted += count
            before = [len(group.running) for group in some]
            taken += self._fetch(some) if some else 0
            for group, count in zip(some, before, strict=True):
                arrived[group.group_id].extend([now] * (len(group.running) - count))
            self._get(sent)
            if not some and not sent:
                time.sleep(0.001)
        return taken / elapsed, self._num_calls / elapsed

    def _fetch(self, some: list[CountingGroup]) -> int:
        return self._take(some, self._ask(some))

    def _ask(self, some: list[CountingGroup]) -> list[Any]:
        """Fetches for these groups at the same time."""
        self._num_calls += len(some)
        return [self._scheduler.fetch_now.remote(group.report()) for group in some]

    def _take(self, some: list[CountingGroup], answers: list[Any]) -> int:
        """Give the groups the last of these answers. Returns: requests that decode groups have got."""
        found = self._get(answers)[-len(some) :]
        taken = [group.take(pairs) for group, pairs in zip(some, found, strict=True)]
        return sum(n for group, n in zip(some, taken, strict=True) if group.role is Role.DECODE)

    def _submit(self, count: int) -> Any:
        self._num_calls += 1
        return self._scheduler.submit.remote(PackedList(islice(self._source, count)))

    @staticmethod
    def _get(refs: Any) -> Any:
        return ray.get(refs, timeout=ANSWER_S)


class SchedulerBench:
    """A private Ray, and on it one scheduler after another."""

    def __init__(self) -> None:
        self._session = RaySession()

    def __enter__(self) -> "SchedulerBench":
        self._session.open(None, 2)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def measure(
        self, system: tuple[int, int, int], num_waiting: int, seconds: float, rate: Rate | None = None
    ) -> ActorFigures:
        """Args: system: prefill nodes, decode nodes, engines of a node; rate: None for as fast as the scheduler can."""
        every = groups(*system)
        probe = every[-1]  # a decode group
        scheduler = scheduler_actor(len(every)).remote(
            LIMITS, "scheduled", [(group.group_id, group.role) for group in every], first_fetch_within_s=600.0
        )
        leaders = ray.remote(num_cpus=0)(_Leaders).remote(scheduler, system, probe.group_id)
        try:
            ray.get([leaders.ready.remote(), scheduler.report.remote(probe.report())], timeout=ANSWER_S)
            ray.get(leaders.fill.remote(num_waiting), timeout=ANSWER_S)
            probe.take(ray.get(scheduler.fetch_now.remote(probe.report()), timeout=ANSWER_S))
            cpu_s, start = _cpu_s(scheduler), time.perf_counter()
            under_way = leaders.saturate.remote(seconds) if rate is None else leaders.pace.remote(seconds, rate)
            empty, fetches, taken = self._probe(scheduler, probe, under_way)
            assignments, calls = ray.get(under_way, timeout=ANSWER_S)
            elapsed = time.perf_counter() - start
            cores = (_cpu_s(scheduler) - cpu_s) / elapsed
        finally:
            ray.kill(leaders)
            ray.kill(scheduler)
        return ActorFigures(
            assignments_per_s=assignments + taken / elapsed,
            fetch_p99_s=float(np.percentile(fetches, 99)),
            empty_call_p99_s=float(np.percentile(empty, 99)),
            fetch_p50_s=float(np.percentile(fetches, 50)),
            empty_call_p50_s=float(np.percentile(empty, 50)),
            cores=cores,
            calls_per_s=calls,
            num_fetches=len(fetches),
        )

    @staticmethod
    def _probe(scheduler: Any, probe: CountingGroup, under_way: Any) -> tuple[list[float], list[float], int]:
        """Seconds of empty calls and of fetches until the leaders are through; and requests got.

        Each is first every other time: the first call after a pause is the slower one.
        """
        empty: list[float] = []
        fetches: list[float] = []
        taken = 0

        def timed(call: Callable[[], Any], into: list[float]) -> Any:
            start = time.perf_counter()
            answer = ray.get(call(), timeout=ANSWER_S)
            into.append(time.perf_counter() - start)
            return answer

        while not ray.wait([under_way], timeout=_PROBE_INTERVAL_S)[0]:
            fetch_first = len(fetches) % 2 == 1
            if not fetch_first:
                timed(scheduler.ping.remote, empty)
            probe.finish(4)
            report = probe.report()
            taken += probe.take(timed(partial(scheduler.fetch_now.remote, report), fetches))
            if fetch_first:
                timed(scheduler.ping.remote, empty)
        return empty, fetches, taken


def _cpu_s(scheduler: Any) -> float:
    return float(ray.get(scheduler.status.remote(), timeout=ANSWER_S)["cpu_s"])


def _chunks(every: list[CountingGroup], size: int) -> Iterable[list[CountingGroup]]:
    return (every[i : i + size] for i in range(0, len(every), size))
