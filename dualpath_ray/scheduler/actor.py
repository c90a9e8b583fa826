"""The central scheduler: a thin shell around SchedulerCore that leaders fetch from (section 6)."""

import os
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import ray

from dualpath_ray.base.collector import calm_collector
from dualpath_ray.base.packed import PackedList
from dualpath_ray.base.types import Role
from dualpath_ray.observability.ray_export import SCHEDULER, Exporter, ExportSettings
from dualpath_ray.scheduler.bounded_log import BoundedLog
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.decision_counts import DecisionCounts
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import Decision, FetchLimits, GroupReport, Request

ALONE_S = 120.0  # no group has fetched for so long: the system is gone
_SLICE = 64  # requests or decisions for which the lock is held: about a millisecond
_SHARED = 512  # requests shared out among decode groups in a slice
_YIELD_S = 1e-4  # between two slices, for whoever waits for the lock


class RequestScheduler:
    """Every method may be called from many threads; none but ``fetch`` waits. No KV bytes pass through here."""

    def __init__(
        self,
        limits: FetchLimits,
        read_path: str,
        groups: Sequence[tuple[str, Role]],
        facts: object = None,
        max_logged_decisions: int = 50_000,
    ) -> None:
        """Planning starts when each of ``groups`` has reported once, or the first would get everything.

        Args:   read_path: name of the path policy; facts: of the system, for whoever connects to it by name.
        Raises: ConfigError naming ``scheduler.read_path`` when there is no such policy.
        """
        self._core = SchedulerCore(limits, load_policy(read_path))
        self._facts = facts
        self._awaited = {group_id for group_id, _ in groups}
        self._log = BoundedLog(max_logged_decisions)
        self._counts = DecisionCounts()
        self._lock = threading.Lock()
        self._decided: dict[str, threading.Condition] = {}  # by group: there is something for it
        self._planning = False
        self._heard_s = float("-inf")  # when a group fetched last; never yet

    def submit(self, requests: Iterable[Request]) -> None:
        """Append to the waiting queue; a repeated call changes nothing."""
        rest = iter(requests)
        while some := list(islice(rest, _SLICE)):
            with self._lock:
                self._core.submit(some)
                self._plan()

    @ray.method(concurrency_group="fetch")
    def fetch(self, report: GroupReport, wait_s: float) -> list[tuple[Request, Decision]]:
        """Take in a group's report; return the decisions for it, as PE or as DE, after number ``report.seen``.

        Waits at most ``wait_s`` for one. A decision is given again until a report's ``seen`` reaches it. Its inputs
        stay here (see ``decisions``): they are large, and nobody executes them.
        """
        group_id, seen = report.group_id, report.seen
        with self._lock:
            self._heard_s = time.monotonic()
            self._take(report)
            found = self._core.undelivered(group_id, seen)
            if not found and wait_s > 0:
                decided = self._decided.setdefault(group_id, threading.Condition(self._lock))
                decided.wait_for(lambda: self._core.undelivered(group_id, seen), wait_s)
                found = self._core.undelivered(group_id, seen)
        return PackedList((request, decision.without_inputs()) for request, decision in found)

    def fetch_now(self, report: GroupReport) -> list[tuple[Request, Decision]]:
        """``fetch`` that does not wait, and so needs none of the threads for those who do: few threads cost far less."""
        return self.fetch(report, 0.0)

    def report(self, report: GroupReport) -> None:
        """Take in a group's report between two fetches: what it frees may let something waiting go."""
        with self._lock:
            self._take(report)

    def cancel(self, request_id: str) -> tuple[bool, str]:
        """Forget a request. Returns: see ``SchedulerCore.cancel``."""
        with self._lock:
            answer = self._core.cancel(request_id)
            self._plan()
        return answer

    def remove_group(self, group_id: str) -> None:
        """A group died or left: nothing goes there until it reports again."""
        with self._lock:
            self._awaited.discard(group_id)
            self._core.remove_group(group_id)
            self._decided.pop(group_id, None)
            self._plan()

    def drain(self, group_id: str) -> None:
        """Nothing new goes there; what it has goes on."""
        with self._lock:
            self._awaited.discard(group_id)  # the others do not wait for its first report
            self._core.drain_group(group_id)
            self._plan()

    def undrain(self, group_id: str) -> None:
        """It takes work again."""
        with self._lock:
            self._core.undrain_group(group_id)
            self._plan()

    def is_idle(self, group_id: str) -> bool:
        """Whether nothing is bound to a group."""
        with self._lock:
            return self._core.is_idle(group_id)

    def set_read_path(self, name: str) -> None:
        """Another path policy from the next decision on.

        Raises: ConfigError naming ``scheduler.read_path`` when there is no such policy.
        """
        policy = load_policy(name)
        with self._lock:
            self._core.set_policy(policy)

    def set_limits(self, limits: FetchLimits) -> None:
        """New alpha and beta from now on."""
        with self._lock:
            self._core.set_limits(limits)
            self._plan()

    def decisions(self, since_seq: int, most: int = 1000) -> list[Decision]:
        """Decisions with their inputs, after number ``since_seq``: the first ``most`` that the log still holds, in order.

        As they are, for the caller to make records of: a thousand share what they were made on, and a record of each
        would hold it for itself.
        """
        with self._lock:
            return PackedList(self._log.since(since_seq, most))

    def status(self) -> dict[str, object]:
        """Queues, loads and counts, and the groups that planning still waits for."""
        with self._lock:
            more = {"awaited_groups": sorted(self._awaited), "cpu_s": sum(os.times()[:2])}
            return {**self._core.status(), **self._counts.status(), **more}

    def facts(self, known: int = -1) -> object:
        """What is to be known of the system by those who use it; None when they know it: ``known`` is its version."""
        with self._lock:
            return None if getattr(self._facts, "version", 0) == known else self._facts

    def set_facts(self, facts: object) -> None:
        """Nodes have come or gone."""
        with self._lock:
            self._facts = facts

    def ping(self) -> str:
        """It is alive."""
        return "scheduler"

    def _take(self, report: GroupReport) -> None:
        self._awaited.discard(report.group_id)
        self._core.report(report)
        self._plan()

    def _plan(self) -> None:
        """Decide what can be decided, and wake whom it concerns. The lock is held, but let go now and then."""
        if self._awaited or self._planning:  # whoever plans will see what has changed in its next slice
            return
        self._planning = True
        try:
            while self._decide():
                self._lock.release()
                time.sleep(_YIELD_S)
                self._lock.acquire()
        finally:
            self._planning = False

    def _decide(self) -> bool:
        """A slice. Returns: whether there may be another."""
        decisions: list[Decision] = []
        try:
            return self._core.plan_some(decisions, _SLICE, _SHARED)
        finally:  # a policy may fail, but what was decided before stands
            self._log.extend(decisions)
            self._counts.add(decisions)
            for group_id in {d.prefill_group for d in decisions} | {d.decode_group for d in decisions}:
                if (decided := self._decided.get(group_id)) is not None:
                    decided.notify_all()


class DetachedScheduler(RequestScheduler):
    """A scheduler that outlives its starter, but not its engines: nobody else would end it once its starter was killed."""

    def __init__(
        self, *args: Any, first_fetch_within_s: float | None, observe: ExportSettings | None = None, **kwargs: Any
    ) -> None:
        """Args: first_fetch_within_s: a system that is not up by then never will be; None: somebody else ends it, and it may
        be without nodes for as long as it takes to get some. The rest as RequestScheduler.
        """
        super().__init__(*args, **kwargs)
        self._system = observe.system if observe else ""
        self._exporter = Exporter(observe, SCHEDULER, {}, self.__repr__, self.status) if observe else None
        calm_collector()
        if first_fetch_within_s is None:
            return
        self._heard_s = time.monotonic() + first_fetch_within_s - ALONE_S
        threading.Thread(target=self._end_when_alone, name="alone", daemon=True).start()

    def __repr__(self) -> str:
        """Shown in the Ray dashboard's actor table."""
        return f"Scheduler of {self._system}"

    def _end_when_alone(self) -> None:
        while time.monotonic() - self._heard_s < ALONE_S:
            time.sleep(ALONE_S / 10)
        os._exit(0)  # no thread of an actor but its main one can end it in any other way


def most_groups(num_groups: int) -> int:
    """That may be there later, of a scheduler that is started for so many."""
    return 2 * num_groups + 8


def scheduler_actor(num_groups: int) -> Any:
    """The actor class for so many groups at first.

    Fetches wait in threads of their own, one a group: were they to fill the default group, no submit could end the wait.
    All else has four: more would only wait for one another, and a call costs the more the more threads share the work.
    """
    threads = {"fetch": most_groups(num_groups)}
    return ray.remote(num_cpus=0, max_concurrency=4, concurrency_groups=threads)(DetachedScheduler)
