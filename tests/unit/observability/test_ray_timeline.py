"""What is sent to Ray's control store, without Ray."""

import time

import pytest

from dualpath_ray.base.span_log import Span
from dualpath_ray.observability import ray_timeline
from dualpath_ray.observability.ray_timeline import RayTimeline, _told


@pytest.fixture
def sent(monkeypatch):
    """Batches that were sent; the first one fails."""
    batches: list[list[Span]] = []

    def send(self, spans):
        batches.append(spans)
        if len(batches) == 1:
            raise ConnectionError("the store restarts")

    monkeypatch.setattr(RayTimeline, "_send", send)
    monkeypatch.setattr(ray_timeline, "_EVERY_S", 0.02)
    return batches


def span(number: int, requests: tuple[str, ...] = ("r",)) -> Span:
    return Span("kv_read", number, number + 1, requests, "p0/snic/in", nbytes=number)


def until(what) -> None:
    deadline = time.monotonic() + 20
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert what()


def test_a_store_that_restarts_costs_one_batch_which_is_told(sent, caplog):
    timeline = RayTimeline("p0")
    timeline.add(span(0))
    until(lambda: len(sent) == 1)
    timeline.add(span(1))
    until(lambda: len(sent) == 2)
    timeline.add(span(2))
    timeline.close()
    assert [[each.nbytes for each in batch] for batch in sent] == [[0], [1], [2]], "what waits at the end is sent"
    assert [record.getMessage() for record in caplog.records] == [
        "p0: spans missing on Ray's timeline: 1: ConnectionError('the store restarts')"
    ]


def test_of_a_flood_the_last_are_sent_and_the_others_counted(sent, caplog, monkeypatch):
    monkeypatch.setattr(ray_timeline, "_EVERY_S", 60.0)
    monkeypatch.setattr(ray_timeline, "_MOST_SPANS", 4)
    sent.append([])  # the one that fails
    timeline = RayTimeline("d0/e0")
    for number in range(10):
        timeline.add(span(number))
    timeline.close()
    assert [each.nbytes for each in sent[-1]] == [6, 7, 8, 9]
    assert "d0/e0: spans missing on Ray's timeline: 6" in caplog.text


def test_a_batch_names_a_few_of_its_requests():
    row = ray_timeline._Row("d0/e0", 0)
    told = _told(span(1, tuple(f"r{i}" for i in range(20))), row)
    assert told["requests"] == "r0, r1, r2, r3, r4, r5, r6, r7 and 12 more"
    assert told["name"] == "kv_read, d0/e0" and told["bytes"] == "1"
