"""What the Ray dashboard shows of a system at work: read back over HTTP, and looked at with a browser."""

import json
import re
from typing import Any

import pytest

from tests.slow.dashboard.head import Live, until
from tests.slow.dashboard.screenshots import sign_in
from tests.slow.ray.live_page import CHROMIUM, chromium

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(280)]
ACTORS = {
    "scheduler": r"Scheduler of SYSTEM",
    "traffic/p0": r"TrafficManager p0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "traffic/d0": r"TrafficManager d0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "prefill/p0/e0": r"PrefillEngine p0/e0 on cpu",
    "decode/d0/e0": r"DecodeEngine d0/e0 on cpu",
    "storage/0": r"StorageNode 0 at /\S+",
}


def test_the_actor_table_shows_role_node_and_device(live: Live) -> None:
    actors = [a for a in json.loads(live.ray("/logical/actors"))["data"]["actors"].values() if a["state"] == "ALIVE"]
    assert sorted(actor["name"] for actor in actors) == sorted(ACTORS)
    for actor in actors:
        wanted = ACTORS[actor["name"]].replace("SYSTEM", live.system)
        assert re.fullmatch(wanted, actor["reprName"]), f"{actor['name']} is shown as {actor['reprName']}"


def test_an_actors_log_page_holds_state_lines(live: Live) -> None:
    actors = json.loads(live.ray("/api/v0/actors?detail=1"))["data"]["result"]["result"]
    alive = [actor for actor in actors if actor["state"] == "ALIVE"]
    assert len(alive) == len(ACTORS)
    for actor in alive:
        log = live.ray(f"/api/v0/logs/file?actor_id={actor['actor_id']}&suffix=out&lines=200")
        lines = [line for line in log.splitlines() if line.startswith(actor["repr_name"] + ": ")]
        assert len(lines) >= 2, f"{actor['repr_name']}: {log[-1000:]}"
    manager = live.ray(
        f"/api/v0/logs/file?actor_id={next(a['actor_id'] for a in alive if a['name'] == 'traffic/p0')}&suffix=out&lines=50"
    )
    assert re.search(r"snic in [\d.]+ MB/s \(\d+% busy\)", manager) and "slots free" in manager


KINDS = {"kv_read": r"[pd]0/snic/in", "kv_in": r"p0/cnic0/in", "kv_out": r"p0/cnic0/out"}
KINDS |= {"prefill_layer": r"p0/e0", "decode_step": r"d0/e0"}


def test_reads_transfers_layers_and_steps_are_spans_on_the_timeline(live: Live) -> None:
    """As the button of a job's page fetches it."""

    def spans() -> list[dict[str, Any]]:
        job = next(a["job_id"] for a in json.loads(live.ray("/api/v0/actors"))["data"]["result"]["result"])
        timeline = json.loads(live.ray(f"/api/v0/tasks/timeline?job_id={job}"))
        return [event for event in timeline if event.get("cat") in KINDS]

    found = until(lambda: (some := spans()) and {each["cat"] for each in some} == set(KINDS) and some, 30)
    assert found, {each["cat"] for each in spans()}
    rows: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in found:
        place = event["args"]["place"]
        assert re.fullmatch(KINDS[event["cat"]], place) and event["name"].endswith(place), event
        assert event["dur"] >= 0 and event["args"]["requests"], event
        rows.setdefault((event["pid"], event["tid"]), []).append(event)
    for events in rows.values():
        assert len({(event["args"]["place"], event["args"]["row"]) for event in events}) == 1
        events.sort(key=lambda event: event["ts"])
        ends = [event["ts"] + event["dur"] for event in events]
        starts = [event["ts"] for event in events]
        rounding_us = 1.0  # of times that are told as floating-point numbers
        assert all(end <= start + rounding_us for end, start in zip(ends, starts[1:], strict=False)), "none overlaps"
    layers = {int(event["args"]["layer"]) for event in found if event["cat"] == "prefill_layer"}
    assert layers == set(range(len(layers))) and len(layers) > 1
    assert sum(int(event["args"].get("bytes", 0)) for event in found if event["cat"] == "kv_read") > 0


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_chromium_opens_the_dashboard_during_a_rollout(live: Live) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        sign_in(page, live)
        for wanted in ACTORS.values():
            shown = re.compile(wanted.replace("SYSTEM", live.system))
            page.get_by_text(shown).first.wait_for(timeout=30_000)
        page.goto(f"{live.dashboard}/#/metrics")
        page.locator("iframe").first.wait_for(timeout=30_000)
        frame = page.locator("iframe").first.get_attribute("src")
        uid = json.loads(live.ray("/api/grafana_health"))["data"]["dashboardUids"]["default"]
        assert f"/d/{uid}" in frame and live.session.name in frame
        page.goto(f"{live.dashboard}/#/jobs")
        page.get_by_role("row").filter(has_text="tests.slow.dashboard.rolling").get_by_role("link").first.click()
        page.get_by_text("Timeline", exact=False).first.wait_for(timeout=30_000)
