"""The log of decisions: bounded by number, and by the loads that its decisions were made on."""

from dataclasses import replace

from dualpath_ray.scheduler.bounded_log import BoundedLog
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.read_side import scheduled


def decisions(make, count, reports_between):
    """So many, with reports of both groups before each."""
    core = SchedulerCore(replace(make.limits, max_unfinished_tokens=10**9), scheduled)
    core.report(make.prefill())
    core.report(make.decode(tokens=(0,) * 8))
    made = []
    for i in range(count):
        for _ in range(reports_between):
            core.report(make.prefill(seen=len(made)))
            core.report(make.decode(tokens=(0,) * 8, seen=len(made)))
        core.submit([make.request(f"r{i}")])
        made += core.plan()
    return made


def test_reports_between_two_decisions_take_no_room(make):
    few, many = (decisions(make, 40, reports) for reports in (1, 50))
    assert len(few) == len(many) == 40
    assert [len(each.inputs.loads.history.changes) for each in many] == [
        len(each.inputs.loads.history.changes) for each in few
    ]
    assert [each.inputs.loads.views() for each in many] == [each.inputs.loads.views() for each in few]


def test_the_oldest_go_when_there_are_too_many_or_too_much(make):
    made = decisions(make, 40, 1)
    log = BoundedLog(10)
    log.extend(made)
    assert [each.seq for each in log.since(0, 99)] == list(range(31, 41))
    assert [each.seq for each in log.since(33, 2)] == [34, 35]
    log = BoundedLog(1000, max_loads=50)
    log.extend(made)
    kept = [each.seq for each in log.since(0, 99)]
    assert kept == list(range(41 - len(kept), 41)) and 5 < len(kept) < 20, "about four loads each"
    log = BoundedLog(1000, max_loads=0)
    log.extend(made)
    assert [each.seq for each in log.since(0, 99)] == [40], "the last one stays, whatever it takes"


def test_decisions_without_inputs_count_by_number(make):
    log = BoundedLog(3, max_loads=0)
    log.extend(each.without_inputs() for each in decisions(make, 5, 0))
    assert [each.seq for each in log.since(0, 9)] == [3, 4, 5]
