"""The live page of a real system in a real browser: bars move, decisions stream, and the switch is the system's own."""

import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import ray

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.attach import actors_of
from dualpath_ray.cluster.page import page_of
from dualpath_ray.ui.actor import start_page
from tests.slow.ray.live_page import CHROMIUM, Live, chromium, live

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not here"),
]
WAIT_S = 30.0
NAME = f"t-{secrets.token_hex(4)}"


@pytest.fixture(scope="module", name="system")
def _system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("ui"), NAME) as system:
        yield system


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


class Tab:
    """A tab of the browser that shows the page."""

    def __init__(self, browser: Any, system: Live, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(system.url)
        self.until(lambda: self.state() == "live")

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def state(self) -> str:
        return str(self.page.locator("#link").get_attribute("data-state"))

    def until(self, holds: Callable[[], bool], within_s: float = WAIT_S) -> None:
        """Wait in the browser's own time."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.page.inner_text("main")
            self.page.wait_for_timeout(100)

    def share(self, nic: str) -> float:
        """Of a direction's bar, in percent of its width as it is drawn."""
        drawn = "bar => 100 * bar.firstElementChild.getBoundingClientRect().width / bar.getBoundingClientRect().width"
        return float(self.page.locator(f'[data-nic="{nic}"]').evaluate(drawn))

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.id || document.activeElement.className"))


@pytest.fixture(name="tab")
def _tab(browser: Any, system: Live) -> Iterator[Tab]:
    """It ends without a complaint, and has asked nobody but the page's server."""
    tab = Tab(browser, system)
    yield tab
    asked, complaints = tab.asked, tab.complaints
    tab.context.close()
    assert complaints == []
    assert asked and all(url.startswith((system.url, "data:")) for url in asked), asked


def test_the_page_shows_what_there_is(tab: Tab, system: Live) -> None:
    assert tab.page.inner_text("#system") == NAME
    assert "toy-llama on 1P2D" in tab.page.inner_text("#subtitle")
    bars = tab.page.locator("[role=meter]").evaluate_all("bars => bars.map(bar => bar.dataset.nic)")
    assert sorted(bars) == sorted(
        f"{n}/{nic}/{way}" for n in ("p0", "d0", "d1") for nic in ("snic", "cnic0") for way in ("in", "out")
    )
    assert tab.page.locator("#dual").is_checked()
    named = tab.page.get_by_role("meter", name="d1 storage NIC, read")
    assert re.fullmatch(r"\d+ %, \d\.\d of 2\.0 MB/s, .+", str(named.get_attribute("aria-valuetext")))


def test_status_and_rollout_tell_where_the_page_is(system: Live, capfd: pytest.CaptureFixture[str]) -> None:
    assert system.command("status", "--name", NAME) == 0
    for name in ("first", "second"):
        system.roll_out(
            name, ("--num-trajectories", "2", "--max-turns", "2", "--total-tokens", "300", "--max-gen", "2")
        )
    assert system.command("ui", "--name", NAME) == 0, "it says where the page is, and ends"
    assert capfd.readouterr().out.count(system.url) == 4


def test_bars_move_decisions_stream_and_the_switch_is_the_systems(tab: Tab, system: Live) -> None:
    page = tab.page
    with system.loaded():
        tab.until(lambda: min(tab.share(f"{node}/snic/in") for node in ("p0", "d0", "d1")) > 60)
        tab.until(lambda: page.locator("#log [data-path=de]").count() > 2)
        assert "read queue PE" in page.inner_text("#log")
        seqs = page.locator("#log li").evaluate_all("rows => rows.map(row => Number(row.dataset.seq))")
        assert seqs == sorted(seqs, reverse=True) and len(set(seqs)) == len(seqs)

        page.locator("#single").check()
        tab.until(lambda: system.scheduler["policy"] == "prefill_only")
        tab.until(lambda: page.locator(".lane.closed").count() == 2, 60)
        tab.until(lambda: tab.share("p0/snic/in") > 90)
        tab.until(lambda: tab.share("d0/snic/in") == tab.share("d1/snic/in") == 0)  # once the bars have come to rest
        assert "single path" in page.inner_text("#history") and "single path" in page.inner_text("#said")
        newest = page.locator("#log li").first
        tab.until(lambda: newest.locator(".reason").inner_text() in ("single path: the prefill side reads", "no hit"))

        page.locator("#dual").check()
        tab.until(lambda: system.scheduler["policy"] == "scheduled")
        tab.until(lambda: max(tab.share(f"{node}/snic/in") for node in ("d0", "d1")) > 60)
        assert page.locator(".lane.closed").count() == 0
        told = system.scheduler
        assert told["num_by_path"]["pe"] > 0 and told["num_by_path"]["de"] > 0


def test_who_changes_it_elsewhere_is_seen_here(tab: Tab, system: Live) -> None:
    assert system.command("set", "read_path=prefill_only", "--name", NAME) == 0
    tab.until(lambda: tab.page.locator("#single").is_checked())
    assert system.command("set", "read_path=scheduled", "--name", NAME) == 0
    tab.until(lambda: tab.page.locator("#dual").is_checked())


def test_the_keyboard_is_enough(tab: Tab, system: Live) -> None:
    page, order = tab.page, []
    for _ in range(5):
        page.keyboard.press("Tab")
        order.append(tab.focused())
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert order == ["skip", "theme", "show-keys", "dual", "pause"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowLeft")  # as in any group of radio buttons
    tab.until(lambda: system.scheduler["policy"] == "prefill_only")
    page.keyboard.press("2")
    tab.until(lambda: system.scheduler["policy"] == "scheduled")
    page.keyboard.press("1")
    tab.until(lambda: system.scheduler["policy"] == "prefill_only")
    page.keyboard.press("2")
    tab.until(lambda: system.scheduler["policy"] == "scheduled")
    page.keyboard.press("p")
    assert page.locator("#pause").get_attribute("aria-pressed") == "true"
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_as_the_machine_has_it_or_the_reader_wants(browser: Any, system: Live, scheme: str) -> None:
    def ground(tab: Tab) -> int:
        colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    tab = Tab(browser, system, color_scheme=scheme)
    is_light = ground(tab) > 384
    assert is_light is (scheme == "light")
    tab.page.keyboard.press("t")
    assert (ground(tab) > 384) is not is_light
    tab.page.reload()
    assert (ground(tab) > 384) is not is_light, "the choice is kept"
    assert tab.complaints == []
    tab.context.close()


@pytest.mark.parametrize("width", [400, 700, 1000])
def test_a_narrow_window_needs_no_scrolling_sideways(browser: Any, system: Live, width: int) -> None:
    tab = Tab(browser, system, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.page.evaluate("getComputedStyle(document.querySelector('.pipe i')).transitionDuration") == "0s"
    tab.context.close()


def test_two_past_runs_are_compared(tab: Tab, system: Live) -> None:
    page = tab.page
    for name in ("run-3", "first", "second"):  # of three that are chosen the first gives way
        page.get_by_role("checkbox", name=f"compare {name}, scheduled").check()
    assert page.locator("#runs input:checked").count() == 2
    assert re.search(r"finishes \d+\.\d\d× as fast as", page.inner_text("#compared"))
    assert page.locator("#compared tbody tr").count() == 6
    page.get_by_role("checkbox", name="compare run-3, scheduled").check()
    assert "Not the same work" in page.inner_text("#compared")
    with tab.context.expect_page() as opened:
        page.get_by_role("link", name="report of first").click()
    assert opened.value.locator("h1").inner_text()


def test_a_page_whose_server_dies_is_there_again(browser: Any, system: Live) -> None:
    tab = Tab(browser, system)
    ray.kill(page_of(NAME), no_restart=False)
    tab.until(lambda: tab.state() == "lost")
    assert "goes on trying" in tab.page.inner_text("#problem")
    tab.until(lambda: tab.state() == "live", 60)
    assert not tab.page.locator("#problem").is_visible()
    tab.context.close()


def _hear_ctrl_c() -> None:
    """Whatever runs in a shell's background inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_process_of_ones_own_serves_the_page_too(system: Live) -> None:
    command = [str(Path(sys.executable).parent / "dualpath"), "ui", "--name", NAME, "--address", system.ray_address]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            url = said.split()[-1]
            with urlopen(url, timeout=WAIT_S) as answer:
                assert b"DualPath, live" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0
        finally:
            process.kill()
    assert url != system.url and "until Ctrl-C" in said


def test_a_busy_port_is_bad_input(system: Live, capfd: pytest.CaptureFixture[str]) -> None:
    port = system.url.rstrip("/").rpartition(":")[2]
    assert system.command("ui", "--name", NAME, "--port", port) == 2
    sentence = f"127.0.0.1:{port} cannot be listened on"
    assert f"--port: {sentence}" in capfd.readouterr().err
    with pytest.raises(ConfigError, match=f"^ui.port: {sentence}"):
        start_page(f"{NAME}-other", "127.0.0.1", int(port), None, "runs")
    assert actors_of(f"{NAME}-other") == {}


def test_down_takes_the_page_along(browser: Any, system: Live, tmp_path: Path) -> None:
    tab = Tab(browser, system)
    assert system.command("down", "--name", NAME, "--within", "10") == 0
    assert actors_of(NAME) == {}
    tab.until(lambda: tab.state() == "lost")
    tab.context.close()
