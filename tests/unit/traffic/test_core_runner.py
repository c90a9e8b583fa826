"""Events reach a core one at a time and in order, whichever thread has them; its failure is told, in whichever thread."""

import queue
import threading
import time

import pytest

from dualpath_ray.base.errors import TransportError
from dualpath_ray.traffic.core_runner import CoreRunner
from dualpath_ray.traffic.effects import Fail, OpDone, Tick

LIMIT_S = 20


class Core:
    """Notes what it handles; an event's result says what comes of it."""

    def __init__(self):
        self.handled, self.deadline_s, self.inside = queue.SimpleQueue(), None, threading.Lock()
        self.fails_at_deadline = False

    def handle(self, event, now_s):
        assert self.inside.acquire(blocking=False), "two events at once"
        try:
            self.handled.put((event, threading.current_thread().name))
            if isinstance(event, OpDone) and event.result == "fail":
                raise ValueError("broken")
            if isinstance(event, OpDone) and event.result == "effect":
                return [Fail(TransportError("for the executor"))]
            if isinstance(event, Tick):
                self.deadline_s = None
            return []
        finally:
            self.inside.release()

    def next_deadline_s(self):
        if self.fails_at_deadline:
            raise ValueError("no deadline")
        return self.deadline_s

    def status(self, now_s):
        return {"ok": True}

    def next(self):
        """The next one that is not a Tick."""
        while isinstance((found := self.handled.get(timeout=LIMIT_S))[0], Tick):
            pass
        return found


@pytest.fixture
def made():
    core, effects, failures = Core(), [], queue.SimpleQueue()
    runner = CoreRunner(core, "traffic manager of p0", effects.append, failures.put)
    runner.start()
    yield core, runner, effects, failures
    runner.stop()
    for thread in threading.enumerate():
        if thread.name == "traffic-core":
            thread.join(LIMIT_S)


def test_events_are_taken_where_they_come_and_put_for_the_runners_thread(made):
    core, runner, effects, _ = made
    runner.take(OpDone(1, "effect"))
    assert core.next() == (OpDone(1, "effect"), "MainThread") and len(effects) == 1
    for op in (2, 3, 4):
        runner.put(OpDone(op, None))
    assert [core.next() for _ in range(3)] == [(OpDone(op, None), "traffic-core") for op in (2, 3, 4)]
    assert runner.status() == {"ok": True}


def test_what_comes_of_an_effect_at_once_is_handled_before_anything_else(made):
    core, _, _, failures = made
    runner = CoreRunner(core, "p0", lambda effect: runner.at_once(OpDone(9, None)), failures.put)
    runner.take(OpDone(1, "effect"))
    assert [core.next()[0].op for _ in range(2)] == [1, 9]


def test_threads_take_turns(made):
    core, runner, _, _ = made
    threads = [threading.Thread(target=lambda: [runner.take(OpDone(1, None)) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert len([core.next() for _ in range(800)]) == 800


def test_the_sleeping_thread_hears_of_an_earlier_deadline(made):
    core, runner, _, _ = made
    while not core.handled.empty():
        core.handled.get()
    core.deadline_s = time.monotonic() + 0.01
    runner.take(OpDone(1, None))
    seen = [core.handled.get(timeout=LIMIT_S) for _ in range(2)]
    assert [type(event) for event, _ in seen if isinstance(event, OpDone)] == [OpDone]
    while not isinstance((tick := core.handled.get(timeout=LIMIT_S) if len(seen) < 2 else seen.pop())[0], Tick):
        pass
    assert tick[1] == "traffic-core"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("where", ["take", "put", "deadline"])
def test_a_failure_is_told_wherever_it_is_and_nothing_is_run_after_it(made, where):
    core, runner, _, failures = made
    if where == "put":
        runner.put(OpDone(1, "fail"))
        reason = failures.get(timeout=LIMIT_S)
    else:
        core.fails_at_deadline = where == "deadline"
        with pytest.raises(ValueError):
            runner.take(OpDone(1, "fail" if where == "take" else None))
        reason = failures.get(timeout=LIMIT_S)
    assert isinstance(reason, TransportError) and str(reason).startswith("traffic manager of p0 failed: ValueError(")
    assert runner.over and core.next()[0].op == 1
    runner.take(OpDone(2, None))
    runner.put(OpDone(3, None))
    assert core.handled.empty()
    with pytest.raises(TransportError, match="traffic manager of p0 failed"):
        runner.status()


def test_one_that_was_stopped_says_so(made):
    core, runner, _, failures = made
    runner.stop()
    runner.take(OpDone(1, "fail"))
    assert failures.empty()
    with pytest.raises(TransportError, match="traffic manager of p0 has ended"):
        runner.status()
