"""The scheduler's benchmark: its groups tell the truth, and its table has a limit beside each figure."""

from itertools import islice

from dualpath_ray.bench.scheduler import SchedulerRow, table
from dualpath_ray.bench.scheduler_load import LIMITS, groups, requests
from dualpath_ray.bench.scheduler_policy import measure_policy
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import load_policy


def test_groups_report_what_they_run():
    every = groups(1, 2, 2)
    core = SchedulerCore(LIMITS, load_policy("scheduled"))
    for group in every:
        core.report(group.report())
    core.submit(islice(requests(), 50))
    assert len(core.plan()) == 50
    for group in every:
        found = core.undelivered(group.group_id, 0)
        assert group.take(found) == len(found) and group.take(found) == 0
        before = core.status()["groups"][group.group_id]["engines"]
        core.report(group.report())
        assert core.status()["groups"][group.group_id]["engines"] == before, "as the scheduler had counted"
    ended = [group.finish(10**6) for group in every]
    assert ended[0] == ended[1] + ended[2] == 50
    for group in every:
        core.report(group.report())
        assert not any(load["unfinished_tokens"] for load in core.status()["groups"][group.group_id]["engines"])
    assert core.status()["num_bound"] == 0


def test_the_policy_is_measured_with_the_queue_full():
    figures = measure_policy((1, 2, 1), 300, 0.05)
    assert figures.assignments_per_s > figures.assignments_per_s_with_reports > 0
    assert figures.report_mean_s > 0 and figures.fetch_p99_s > 0


def test_the_table_shows_limits():
    row = SchedulerRow("actor", 1152, 100_000, 12_345.0, 0.004, 10_000.0, empty_call_p99_s=0.002)
    shown = table({"rows": [vars_of(row)], "skipped": ["actor, 6 engines"]})
    assert "| actor | 1,152 | 100,000 | 12,345 | 10,000 |  |  | 4.00 | 2.00 |" in shown
    assert "no time for: actor, 6 engines" in shown


def vars_of(row):
    return {name: getattr(row, name) for name in row.__slots__}
