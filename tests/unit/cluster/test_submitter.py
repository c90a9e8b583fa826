"""Requests go to the scheduler in order, many in a call, none lost."""

import threading

import pytest

from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.cluster.submitter import Submitter
from dualpath_ray.scheduler.state import Request


def request(number):
    return Request(f"r{number}", 1, "t", 10, 0, 1)


def test_the_first_goes_at_once_and_the_rest_of_an_interval_together():
    calls, sent = [], threading.Event()

    def submit(requests):
        calls.append([each.request_id for each in requests])
        sent.set()

    submitter = Submitter(submit, 0.3)
    submitter.put(request(0)).result(10)
    assert calls == [["r0"]]
    waiting = [submitter.put(request(i)) for i in range(1, 6)]
    for each in waiting:
        each.result(10)
    assert sum(calls, []) == [f"r{i}" for i in range(6)] and len(calls) <= 3
    submitter.close()


def test_what_waits_is_sent_at_the_end():
    calls = []
    submitter = Submitter(calls.append, 60.0)
    submitter.put(request(0)).result(10)
    last = submitter.put(request(1))
    submitter.close()
    last.result(10)
    assert calls == [[request(0)], [request(1)]]


@pytest.mark.parametrize("failure", [SystemDiedError("the scheduler is gone"), RuntimeError("Ray is shut down")])
def test_a_failed_call_fails_its_requests_and_no_other(failure):
    answers = iter([failure, None])

    def submit(requests):
        if (error := next(answers)) is not None:
            raise error

    submitter = Submitter(submit, 0.01)
    with pytest.raises(type(failure)):
        submitter.put(request(0)).result(10)
    submitter.put(request(1)).result(10)
    submitter.close()
