"""The scheduler's policy alone: fetches one after another, with so many requests waiting all the time."""

import gc
import time
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dualpath_ray.base.collector import calm_collector
from dualpath_ray.base.types import Role
from dualpath_ray.bench.scheduler_load import LIMITS, groups, requests
from dualpath_ray.scheduler.bounded_log import BoundedLog
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import load_policy

FINISHED = 16  # requests that have ended in a decode group between two of its fetches
_LOG = 50_000  # decisions kept, as the scheduler's actor does
_PARTS = 3


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """CPU time of the policy's own calls; the groups that stand in for engines do not count.

    Of the best of three parts: whatever else runs on the machine takes caches away and makes nothing faster.
    """

    assignments_per_s: float  # of submits and plans
    assignments_per_s_with_reports: float  # of the reports of both sides, too
    fetch_p99_s: float  # a report, the plan that it allows, and what is there for its group
    report_mean_s: float


def measure_policy(system: tuple[int, int, int], num_waiting: int, seconds: float) -> PolicyFigures:
    """Args: system: prefill nodes, decode nodes, engines of a node; seconds: for which to measure."""
    thresholds = gc.get_threshold()
    try:
        run = _Run(system, num_waiting)
        calm_collector()
        parts = [run.part(seconds / _PARTS) for _ in range(_PARTS)]
        return max(parts, key=lambda part: part.assignments_per_s)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class _Run:
    def __init__(self, system: tuple[int, int, int], num_waiting: int) -> None:
        """Submit until the engines are full and so many requests wait."""
        self._groups, self._source = groups(*system), requests()
        self._core = core = SchedulerCore(LIMITS, load_policy("scheduled"))
        self._log = BoundedLog(_LOG)
        for group in self._groups:
            core.report(group.report())
        while core.num_waiting < num_waiting:
            core.submit(islice(self._source, max(256, num_waiting - core.num_waiting)))
            self._log.extend(core.plan())
        for group in self._groups:
            group.take(core.undelivered(group.group_id, 0))

    def part(self, seconds: float) -> PolicyFigures:
        """Let requests end, group by group, and others come in their place."""
        core, clock = self._core, time.thread_time
        assigning, reporting, assigned, fetches = 0.0, 0.0, 0, []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for group in self._groups:
                group.finish(FINISHED if group.role is Role.DECODE else len(group.running))
                report = group.report()
                start = clock()
                core.report(report)
                reported = clock()
                decisions = core.plan()
                self._log.extend(decisions)
                planned = clock()
                found = core.undelivered(group.group_id, report.seen)
                fetched = clock()
                group.take(found)
                new = list(islice(self._source, len(decisions)))
                before_submit = clock()
                core.submit(new)
                assigning += planned - reported + clock() - before_submit
                reporting += reported - start
                fetches.append(fetched - start)
                assigned += len(decisions)
        return PolicyFigures(
            assigned / assigning,
            assigned / (assigning + reporting),
            float(np.percentile(fetches, 99)),
            reporting / len(fetches),
        )
