import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dualpath_ray.base.errors import SystemDiedError
from dualpath_ray.base.types import CLIENT_SILENT_S
from dualpath_ray.engine.events import EventBuffer
from dualpath_ray.engine.request import StepEvent


def event(number: int) -> StepEvent:
    return StepEvent(f"r{number}", 1, 0, 0)


def test_each_event_is_told_once_to_its_client():
    buffer = EventBuffer()
    for number in range(3):
        buffer.emit("a" if number else "b", event(number))
    assert buffer.poll("a", 0.0) == [event(1), event(2)]
    assert buffer.poll("a", 0.0) == []
    assert buffer.poll("b", 0.0) == [event(0)]


def test_a_client_that_fell_silent_is_forgotten_and_hears_of_it():
    now = [0.0]
    buffer = EventBuffer(lambda: now[0])
    buffer.emit("dead", event(0))
    buffer.poll("alive", 0.0)
    now[0] = CLIENT_SILENT_S
    buffer.poll("alive", 0.0)
    buffer.emit("alive", event(1))
    now[0] = CLIENT_SILENT_S + 1
    buffer.emit("alive", event(2))
    assert buffer.poll("alive", 0.0) == [event(1), event(2)]
    buffer.emit("dead", event(3))
    with pytest.raises(SystemDiedError, match="silent"):
        buffer.poll("dead", 0.0)


def test_a_client_that_leaves_ends_its_poll_and_nothing_is_kept_for_it():
    buffer = EventBuffer()
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(buffer.poll, "a", 60.0)
        while not buffer.knows("a"):
            time.sleep(0.001)
        buffer.leave("a")
        assert polled.result(30) == []
    buffer.emit("a", event(0))
    assert buffer.num_waiting == 0
