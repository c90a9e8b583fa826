"""The leader's reports: what it has handed out and its node has not opened yet is counted, nothing twice."""

import threading
import time

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.engine.group import GroupLeader, client_payload
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.scheduler.state import Decision, DecodeLoad, GroupReport, PrefillLoad, Request
from dualpath_ray.traffic.messages import NodeState

PAYLOAD = client_payload("c", bytes(4 * 100), [], [], b"", 0, SamplingParams(max_tokens=10))


def request(number: int) -> Request:
    return Request(f"r{number}", 1, "t", 100, 64, 10, payload=PAYLOAD)


def decision(number: int, path: ReadPath) -> Decision:
    return Decision(number, f"r{number}", 1, "d0", "d0/e0", "d0", "p0", "p0/e0", "p0", path, "")


def leader(role: Role) -> tuple[GroupLeader, list[object]]:
    given: list[object] = []
    made = GroupLeader(
        "p0" if role is Role.PREFILL else "d0",
        role,
        1,
        1000,
        16,
        0.02,
        lambda report, wait_s: [],
        lambda report: None,
        lambda engine, r: given.append(r),
        lambda reason: None,
    )
    return made, given


def state(read_queue_tokens: int, free_buffer_tokens: int, opened: list[list[int]]) -> NodeState:
    return NodeState(read_queue_tokens, 0, True, free_buffer_tokens, [], opened)


def report(made: GroupLeader) -> GroupReport:
    return made._take_report()


def test_reads_on_this_side_count_until_the_node_has_opened_them() -> None:
    made, given = leader(Role.PREFILL)
    made.on_node_state(state(0, 4096, []))
    for number, path in enumerate((ReadPath.PE, ReadPath.DE, ReadPath.PE), 1):
        made._hand_out(request(number), decision(number, path))
    assert len(given) == 3
    assert report(made).node.read_queue_tokens == 2 * 64
    assert report(made).engines == (PrefillLoad("p0/e0", 3, 3 * 100),)
    made.on_node_state(state(64, 4096, [[0, 2]]))
    assert report(made).node.read_queue_tokens == 64 + 64
    made.on_node_state(state(128, 4096, [[0, 3]]))
    assert report(made).node.read_queue_tokens == 128


def test_decode_buffer_and_hbm_count_from_the_hand_out_on() -> None:
    made, _ = leader(Role.DECODE)
    made.on_node_state(state(0, 160, []))
    made._hand_out(request(1), decision(1, ReadPath.PE))
    seen = report(made)
    assert seen.node.free_buffer_tokens == 160 - 7 * 16 and seen.node.read_queue_tokens == 0
    assert seen.engines == (DecodeLoad("d0/e0", 1, 110, 1000 - 110),)
    made.on_node_state(state(0, 48, [[0, 1]]))
    made.on_finished(0, "r1")
    done = report(made)
    assert done.node.free_buffer_tokens == 48 and done.finished == ("r1",)
    assert done.engines == (DecodeLoad("d0/e0", 0, 0, 1000),)
    assert report(made).finished == () and report(made).number > done.number


def test_a_decision_that_is_told_again_is_handed_out_once() -> None:
    made, given = leader(Role.PREFILL)
    made.on_node_state(state(0, 4096, []))
    made._hand_out(request(1), decision(1, ReadPath.PE))
    made._hand_out(request(1), decision(1, ReadPath.PE))
    assert len(given) == 1


def test_under_load_one_call_an_interval_fetches_and_reports() -> None:
    fetched: list[tuple[GroupReport, float]] = []
    reports: list[GroupReport] = []

    def fetch(report: GroupReport, wait_s: float) -> list[tuple[Request, Decision]]:
        fetched.append((report, wait_s))
        number = len(fetched)
        made.on_finished(0, f"r{number - 1}")  # something changes all the time
        return [(request(number), decision(number, ReadPath.PE))]

    made = GroupLeader(
        "d0", Role.DECODE, 1, 10**6, 16, 0.05, fetch, reports.append, lambda e, r: None, lambda why: None
    )
    made.on_node_state(state(0, 10**6, []))
    made.start()
    time.sleep(0.4)
    made.stop()
    assert 3 <= len(fetched) <= 9, "an interval apart"
    assert reports == [], "the next fetch tells"
    assert fetched[0][1] > 0 and {wait_s for _, wait_s in fetched[1:]} == {0.0}
    assert [report.seen for report, _ in fetched] == list(range(len(fetched)))


def test_a_fetch_that_brings_nothing_is_no_reason_for_another_call() -> None:
    """Work comes and goes: whether a call waits or not, the next one is an interval after it began or brought something."""
    called: list[float] = []
    turn = iter([True, False] * 50)

    def fetch(report: GroupReport, wait_s: float) -> list[tuple[Request, Decision]]:
        called.append(time.monotonic())
        return [(request(len(called)), decision(len(called), ReadPath.PE))] if next(turn) else []

    made = GroupLeader(
        "d0", Role.DECODE, 1, 10**6, 16, 0.05, fetch, lambda report: None, lambda e, r: None, lambda why: None
    )
    made.on_node_state(state(0, 10**6, []))
    made.start()
    time.sleep(0.5)
    made.stop()
    gaps = [later - earlier for earlier, later in zip(called, called[1:], strict=False)]
    assert len(called) >= 3 and min(gaps) >= 0.049


def test_what_changes_while_a_fetch_waits_is_reported() -> None:
    reports: list[GroupReport] = []
    waiting, ended = threading.Event(), threading.Event()

    def fetch(report: GroupReport, wait_s: float) -> list[tuple[Request, Decision]]:
        waiting.set()
        ended.wait(10)
        return []

    made = GroupLeader("d0", Role.DECODE, 1, 1000, 16, 0.01, fetch, reports.append, lambda e, r: None, lambda why: None)
    made.on_node_state(state(0, 160, []))
    made.start()
    assert waiting.wait(10)
    made.on_node_state(state(0, 48, []))
    deadline = time.monotonic() + 10
    while not reports and time.monotonic() < deadline:
        time.sleep(0.01)
    made.stop()
    ended.set()
    assert [report.node.free_buffer_tokens for report in reports] == [48]
