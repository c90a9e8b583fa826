"""The scheduler's policy alone: fetches one after another, with so many requests waiting all the time."""

import gc
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dualpath_ray.base.collector import calm_collector
from dualpath_ray.base.types import Role
from dualpath_ray.bench.scheduler_load import LIMITS, groups, requests
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import load_policy
from dualpath_ray.scheduler.state import Decision

FINISHED = 16  # requests that have ended in a decode group between two of its fetches
_LOG = 50_000  # decisions kept, as the scheduler's actor does


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """What the policy's own calls took; the groups that stand in for engines do not count."""

    assignments_per_s: float  # of submits and plans
    assignments_per_s_with_reports: float  # of everything: the reports of both sides, too
    fetch_p99_s: float  # a report, the plan that it allows, and what is there for its group
    report_mean_s: float


def measure_policy(system: tuple[int, int, int], num_waiting: int, seconds: float) -> PolicyFigures:
    """Args: system: prefill nodes, decode nodes, engines of a node; seconds: for which to measure."""
    every, source = groups(*system), requests()
    core = SchedulerCore(LIMITS, load_policy("scheduled"))
    log: deque[Decision] = deque(maxlen=_LOG)
    thresholds = gc.get_threshold()
    try:
        for group in every:
            core.report(group.report())
        while core.num_waiting < num_waiting:  # until the engines are full, and so many wait
            core.submit(islice(source, max(256, num_waiting - core.num_waiting)))
            log.extend(core.plan())
        for group in every:
            group.take(core.undelivered(group.group_id, 0))
        calm_collector()
        assigning, assigned, reporting, fetches = 0.0, 0, 0.0, []
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            for group in every:
                group.finish(FINISHED if group.role is Role.DECODE else len(group.running))
                report = group.report()
                start = time.thread_time()
                core.report(report)
                reported = time.thread_time()
                decisions = core.plan()
                log.extend(decisions)
                planned = time.thread_time()
                found = core.undelivered(group.group_id, report.seen)
                fetched = time.thread_time()
                group.take(found)
                new = list(islice(source, len(decisions)))
                before_submit = time.thread_time()
                core.submit(new)
                assigning += planned - reported + time.thread_time() - before_submit
                reporting += reported - start
                fetches.append(fetched - start)
                assigned += len(decisions)
        return PolicyFigures(
            assigned / assigning,
            assigned / (assigning + reporting),
            float(np.percentile(fetches, 99)),
            reporting / len(fetches),
        )
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
