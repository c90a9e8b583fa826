"""The HTTP face, over a socket, of a system that is made up: a real one stands in tests/slow/test_ui.py."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dualpath_ray.base.errors import ConfigError, SystemDiedError
from dualpath_ray.ui.access import CHANGE_HEADER, Access
from dualpath_ray.ui.feed import Feed
from dualpath_ray.ui.server import PageServer
from tests.unit.ui.conftest import make_record, make_status

WAIT_S = 10.0


class MadeUp:
    """A system whose answers a test sets."""

    def __init__(self) -> None:
        self.read_path, self.num_decisions = "scheduled", 3
        self.shares = {"p0/snic/in": 0.5}
        self.gone: str | None = None
        self.gone_as: type[Exception] = SystemDiedError

    def status(self) -> dict[str, Any]:
        self._check()
        return make_status(read_path=self.read_path, num_decisions=self.num_decisions, shares=self.shares)

    def decisions(self, since: int, most: int) -> list[dict[str, Any]]:
        self._check()
        first = since + 1 if since <= self.num_decisions else 1
        return [make_record(seq) for seq in range(first, self.num_decisions + 1)][-most:]

    def set_read_path(self, name: str) -> None:
        self._check()
        self.read_path = name

    def _check(self) -> None:
        if self.gone is not None:
            raise self.gone_as(self.gone)


class Browser:
    """Requests to a page, one at a time."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, path: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, body: JSON if it is that, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        told = json.loads(text) if answer.headers.get_content_type() == "application/json" else text
        return answer.status, told, dict(answer.headers)

    def events(self) -> Iterator[tuple[str, Any]]:
        """(event, data), until the generator is closed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request("GET", "/api/events")
        answer = connection.getresponse()
        assert answer.headers.get_content_type() == "text/event-stream"
        event = ""
        try:
            while line := answer.readline().decode().rstrip("\n"):
                event = line.removeprefix("event: ")
                data = answer.readline().decode().removeprefix("data: ")
                answer.readline()
                yield event, json.loads(data)
        finally:
            connection.close()

    def until(self, wanted: Any) -> Any:
        """The first view for which ``wanted`` holds."""
        for event, data in self.events():
            if event == "view" and wanted(data):
                return data
        raise AssertionError("the stream has ended")


@contextmanager
def serving(system: MadeUp, tmp_path: Path, access: Access | None = None) -> Iterator[Browser]:
    server = PageServer(system, Feed(time.time), access or Access("127.0.0.1"), 0, tmp_path)
    try:
        yield Browser(server.port)
    finally:
        server.stop()


@pytest.fixture(name="system")
def _system() -> MadeUp:
    return MadeUp()


@pytest.fixture(name="browser")
def _browser(system: MadeUp, tmp_path: Path) -> Iterator[Browser]:
    with serving(system, tmp_path) as browser:
        browser.until(lambda view: view["problem"] is None)
        yield browser


def test_the_page_lets_no_script_run_but_its_own(browser: Browser) -> None:
    status, page, headers = browser.ask("/")
    policy = headers["Content-Security-Policy"]
    nonce = policy.partition("'nonce-")[2].partition("'")[0]
    assert status == 200 and len(nonce) >= 20 and f'<script nonce="{nonce}">' in page
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert nonce not in browser.ask("/")[1]


def test_status_and_decisions_as_json(browser: Browser) -> None:
    assert browser.ask("/api/status")[1]["system"] == "demo"
    assert [row["seq"] for row in browser.ask("/api/decisions?since=1")[1]] == [2, 3]
    assert browser.ask("/api/decisions?since=-1")[0] == 400


def test_the_stream_begins_with_what_was_and_goes_on_with_what_comes(system: MadeUp, browser: Browser) -> None:
    stream = browser.events()
    event, points = next(stream)
    assert event == "history" and points[-1][1] == {"p0": 0.5, "d0": 0.0, "d1": 0.0}
    seqs: list[int] = []
    for event, data in stream:
        if event == "decisions":
            seqs += [row["seq"] for row in data["rows"]]
            system.num_decisions = 5
        if len(seqs) == 5:
            break
    stream.close()  # type: ignore[attr-defined]
    assert seqs == [1, 2, 3, 4, 5]


def test_the_switch_changes_the_system_and_is_marked(system: MadeUp, browser: Browser) -> None:
    headers = {CHANGE_HEADER: "1"}
    assert browser.ask("/api/read-path", "POST", {"read_path": "prefill_only"}, headers)[0] == 200
    assert system.read_path == "prefill_only"
    view = browser.until(lambda view: view["read_path"] == "prefill_only")
    assert [path for _, path in view["flips"]] == ["prefill_only"]


@pytest.mark.parametrize("body", [{"read_path": "round_robin"}, {"read_path": "os:abort"}, {}, [], "scheduled", None])
def test_the_switch_knows_two_paths(system: MadeUp, browser: Browser, body: object) -> None:
    assert browser.ask("/api/read-path", "POST", body, {CHANGE_HEADER: "1"})[0] == 400
    assert system.read_path == "scheduled"


@pytest.mark.parametrize("headers", [{}, {CHANGE_HEADER: "1", "Origin": "http://stranger.example"}])
def test_somebody_elses_page_changes_nothing(system: MadeUp, browser: Browser, headers: dict[str, str]) -> None:
    assert browser.ask("/api/read-path", "POST", {"read_path": "prefill_only"}, headers)[0] == 403
    assert browser.ask("/api/read-path?read_path=prefill_only")[0] == 405
    assert system.read_path == "scheduled"


def test_a_strangers_name_is_refused(browser: Browser) -> None:
    assert browser.ask("/api/status", headers={"Host": "stranger.example"})[0] == 403


def test_a_system_that_goes_away_and_comes_again_is_told(system: MadeUp, browser: Browser) -> None:
    system.gone = "the scheduler is gone: its process has died"
    assert browser.until(lambda view: view["problem"])["problem"] == system.gone
    status, told, _ = browser.ask("/api/status")
    assert status == 503 and told == {"error": system.gone}
    assert browser.ask("/api/read-path", "POST", {"read_path": "prefill_only"}, {CHANGE_HEADER: "1"})[0] == 503
    system.gone, system.num_decisions = None, 1
    assert browser.until(lambda view: view["problem"] is None)["system"] == "demo"
    assert [row["seq"] for row in browser.ask("/api/decisions")[1]] == [1], "another system counts from the beginning"


def test_whatever_ray_raises_the_page_goes_on(system: MadeUp, browser: Browser) -> None:
    system.gone, system.gone_as = "no  connection\nto GCS", RuntimeError
    assert browser.until(lambda view: view["problem"])["problem"] == "Ray does not answer (no connection to GCS)."
    assert browser.ask("/api/read-path", "POST", {"read_path": "prefill_only"}, {CHANGE_HEADER: "1"})[0] == 500
    system.gone = None
    assert browser.until(lambda view: view["problem"] is None)["system"] == "demo"


def test_a_page_has_only_so_many_readers(system: MadeUp, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualpath_ray.ui.server._MOST_READERS", 2)

    def come() -> Iterator[tuple[str, Any]]:
        """One more reader, as soon as there is a place."""
        deadline = time.monotonic() + WAIT_S
        while True:
            stream = browser.events()
            try:
                next(stream)
                return stream
            except AssertionError:  # it was refused
                assert time.monotonic() < deadline, "nobody gets the place of one who has gone"
                time.sleep(0.1)

    streams = [come(), come()]
    assert browser.ask("/api/events")[:2] == (503, {"error": "2 readers look at this page already"})
    streams.pop().close()  # type: ignore[attr-defined]
    streams.append(come())


def test_a_reader_who_comes_forgets_what_was_and_one_who_stays_too(system: MadeUp, browser: Browser) -> None:
    told: list[tuple[bool, list[int]]] = []
    for event, data in browser.events():
        if event == "decisions":
            told.append((data["afresh"], [row["seq"] for row in data["rows"]]))
            system.num_decisions = 2  # another system of its name, which has begun
        if told and told[-1][1] == [1, 2]:
            break
    assert told[0] == (True, [1, 2, 3]) and any(afresh for afresh, _ in told[1:])


def test_with_a_token_nobody_gets_in_without(system: MadeUp, tmp_path: Path) -> None:
    with serving(system, tmp_path, Access("0.0.0.0", "secret")) as browser:
        for path in ("/", "/api/status", "/api/events", "/api/runs", "/api/runs/x/report", "/nothing"):
            assert browser.ask(path)[0] == 401
        assert browser.ask("/?token=wrong")[0] == 401
        change = {CHANGE_HEADER: "1"}
        assert browser.ask("/api/read-path", "POST", {"read_path": "prefill_only"}, change)[0] == 401
        status, _, headers = browser.ask("/?token=secret")
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
        assert browser.ask("/", headers={"Cookie": cookie.partition(";")[0]})[0] == 200
        assert browser.ask("/api/runs", headers={"Authorization": "Bearer secret"})[0] == 200


def test_a_busy_port_is_one_sentence(system: MadeUp, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = threading.active_count()
        with pytest.raises(
            ConfigError, match=rf"^ui\.port: 127.0.0.1:{port} cannot be listened on \(.+\); name another"
        ):
            PageServer(system, Feed(time.time), Access("127.0.0.1"), port, tmp_path)
        assert threading.active_count() <= before


def test_no_runs_are_no_error(browser: Browser) -> None:
    assert browser.ask("/api/runs")[:2] == (200, [])
    for name in ("nothing", "..", "%2e%2e", "..%2f..%2fetc"):
        assert browser.ask(f"/api/runs/{name}/report")[0] == 404
