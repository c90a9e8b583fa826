"""The text and the Perfetto file of a request, of what its actors would tell."""

import pytest

from dualpath_ray.base.span_log import Span, SpanLog
from dualpath_ray.base.types import Role
from dualpath_ray.cluster.trace import RequestTrace
from dualpath_ray.ops.trace import perfetto, trace_text
from dualpath_ray.scheduler.core import SchedulerCore
from dualpath_ray.scheduler.decision_log import to_record
from dualpath_ray.scheduler.read_side import scheduled
from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, GroupReport, NodeLoad, PrefillLoad, Request


@pytest.fixture
def decision():
    core = SchedulerCore(FetchLimits(100, 1000), scheduled)
    for name, role, load in (
        ("p0", Role.PREFILL, PrefillLoad("p0/e0", 0, 0)),
        ("d0", Role.DECODE, DecodeLoad("d0/e0", 0, 0, 10_000)),
    ):
        core.report(GroupReport(name, role, NodeLoad(name, 0, 0, True, 10_000), (load,), 0))
    core.submit([Request("c-1", 1, "t", 100, 64, 8)])
    return to_record(core.plan()[0])


def spans(note=""):
    log = SpanLog()
    log.add(Span("kv_read", 1.0, 1.5, ("c-1",), "p0/snic/in", nbytes=4096, note=note))
    log.add(Span("kv_read", 1.0, 1.5, ("other",), "p0/snic/in", nbytes=9))
    for layer in range(2):
        log.add(Span("prefill_layer", 2.0 + layer, 2.5 + layer, ("c-1", "other"), "p0/e0", layer))
    return log.of("c-1")


FACTS = {"assigned_s": 0.5, "source_ready_s": 1.5, "prefill_start_s": 2.0, "prefill_end_s": 3.5, "hit_blocks": 4}


def test_the_text_says_why_how_long_and_what_was_lost(decision):
    text = trace_text(RequestTrace(decision, FACTS, spans(), 16))
    assert "replay: the same inputs give the same decision" in text and "read_q" in text
    assert "recomputed: nothing" in text and "4.0 KiB" in text and "1.00 s" in text
    lost = trace_text(
        RequestTrace(decision, {**FACTS, "hit_blocks": 1}, spans("4 blocks; the first that failed: corrupt"), 16)
    )
    assert "recomputed: 48 tokens of the hit, since a block was lost: corrupt" in lost
    gone = trace_text(RequestTrace(decision, None, [], 16, ("decode engine d0/e0 is gone: its process has died",)))
    assert "recomputed: not known" in gone and "not all is known: decode engine d0/e0 is gone" in gone


def test_the_file_has_every_span_on_its_node_and_nic(decision):
    made = perfetto(RequestTrace(decision, FACTS, spans(), 16))
    names = {event["args"]["name"] for event in made["traceEvents"] if event["ph"] == "M"}
    assert names == {"p0", "p0/snic/in", "p0/e0"}
    drawn = [event for event in made["traceEvents"] if event["ph"] == "X"]
    assert [event["name"] for event in drawn] == ["kv_read", "prefill_layer 0", "prefill_layer 1"]
    assert [event["args"].get("layer") for event in drawn] == [None, 0, 1]
    assert all(event["dur"] == pytest.approx(5e5) for event in drawn)
    assert drawn[1]["args"]["requests"] == 2
    assert perfetto(RequestTrace(decision, None, [], 16))["traceEvents"] == []


def test_a_log_keeps_the_last_spans():
    log = SpanLog(most=3)
    for number in range(5):
        log.add(Span("decode_step", number, number + 1, ("r",), ""))
    assert len(log.of("r")) == 3 and log.of("s") == []
