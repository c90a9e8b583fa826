"""What Ray's dashboard and a real Prometheus show of a system at work: read back over HTTP, and looked at with a browser.

Every query of every panel and alert is run against a Prometheus that scrapes the cluster. Needs prometheus and promtool
(Debian: prometheus; `.ci/run` unpacks it).
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dualpath_ray.observability import dashboard, panels
from dualpath_ray.observability.metrics import CATALOGUE
from dualpath_ray.observability.shipped import alert_rules
from tests.slow.dashboard import head
from tests.slow.dashboard.head import Live, until
from tests.slow.dashboard.screenshots import sign_in
from tests.slow.ray.live_page import CHROMIUM, chromium

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.skipif(not all(map(shutil.which, head.TOOLS)), reason=f"needs {' and '.join(head.TOOLS)}"),
]
ACTORS = {
    "scheduler": r"Scheduler of SYSTEM",
    "traffic/p0": r"TrafficManager p0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "traffic/d0": r"TrafficManager d0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "prefill/p0/e0": r"PrefillEngine p0/e0 on cpu",
    "decode/d0/e0": r"DecodeEngine d0/e0 on cpu",
    "storage/0": r"StorageNode 0 at /\S+",
}
KINDS = {"kv_read": r"[pd]0/snic/in", "kv_in": r"p0/cnic0/in", "kv_out": r"p0/cnic0/out"}
KINDS |= {"prefill_layer": r"p0/e0", "decode_step": r"d0/e0"}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with head.live() as made:
        yield made


def test_rules_and_configuration_pass_promtool(live: Live) -> None:
    folder = live.session / "metrics" / "prometheus"
    for command in (["check", "rules", folder / "dualpath_alerts.yml"], ["check", "config", folder / "prometheus.yml"]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load(alert_rules())["groups"][0]["rules"]
    (group,) = live.api("rules")["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in rules], "Prometheus has them all"


def test_every_metric_of_the_catalogue_is_scraped(live: Live) -> None:
    def missing() -> set[str]:
        there = {labels["__name__"] for labels, _ in live.query('group by (__name__) ({__name__=~"ray_dualpath_.*"})')}
        return {name for spec in CATALOGUE for name in spec.series} - there

    until(lambda: not missing(), 20)
    assert missing() == set()
    stray = {labels["__name__"] for labels, _ in live.query('group by (__name__) ({__name__=~"ray_dualpath_.*"})')}
    assert stray == {name for spec in CATALOGUE for name in spec.series}, "and nothing that the catalogue does not have"


def test_every_query_of_every_panel_returns_data(live: Live) -> None:
    queries = [(panel.title, target.query) for row in panels.ROWS for panel in row.panels for target in panel.targets]
    shipped = json.loads((live.session / "metrics" / "grafana" / "dashboards" / dashboard.FILE_NAME).read_text())
    assert [t["expr"] for p in shipped["panels"] for t in p.get("targets", ())] == [query for _, query in queries]
    theirs = json.loads((live.session / "metrics/grafana/dashboards/default_grafana_dashboard.json").read_text())
    ours = [
        (p["title"], t["expr"]) for p in theirs["panels"] if p["id"] >= dashboard.FIRST_ID for t in p.get("targets", ())
    ]
    assert len(ours) == sum(len(panel.targets) for panel in panels.ROWS[0].panels)

    def empty() -> list[str]:
        out = []
        for title, query in [*queries, *ours]:
            text = query.replace("$SessionName", live.session.name).replace("$system", live.system)
            if not live.query(text.replace("$__rate_interval", "1m")):
                out.append(f"{title}: {query}")
        return out

    until(lambda: not empty(), 20)
    assert empty() == []


def test_the_metrics_tab_embeds_the_dashboard_that_has_our_row(live: Live) -> None:
    """The tab's frame shows the dashboard with this uid, whole, in the Grafana and with the data source named here."""
    told = json.loads(live.ray("/api/grafana_health"))["data"]
    theirs = json.loads((live.session / "metrics/grafana/dashboards/default_grafana_dashboard.json").read_text())
    assert told["dashboardUids"]["default"] == theirs["uid"] and told["sessionName"] == live.session.name
    assert [panel["title"] for panel in theirs["panels"][:2]] == ["DualPath", "SNIC utilisation"]
    assert all(panel["datasource"] == "${datasource}" for panel in theirs["panels"] if panel["type"] == "timeseries")
    (source,) = yaml.safe_load((live.session / "metrics/grafana/provisioning/datasources/default.yml").read_text())[
        "datasources"
    ]
    assert (source["name"], source["url"]) == (told["dashboardDatasource"], live.prometheus)
    assert json.loads(live.ray("/api/prometheus_health"))["result"] is True


def test_every_expression_of_every_alert_returns_data(live: Live) -> None:
    """With ``bool`` a comparison keeps what it is false for: that it has something to compare is what is asked here."""
    rules = yaml.safe_load(alert_rules())["groups"][0]["rules"]
    for rule in rules:
        parts = re.split(r"(\{[^}]*\})", rule["expr"])  # not within the braces of a selector
        text = "".join(p if p.startswith("{") else re.sub(r"(==|!=|>=|<=|>|<)", r"\1 bool", p) for p in parts)
        assert " bool " in text
        found = live.query(text)
        assert found and all(labels["system"] == live.system for labels, _ in found), f"{rule['alert']}: {text}"
        quiet = rule["alert"] not in ("DualPathTtftAboveSlo", "DualPathTpotAboveSlo", "DualPathPoolUnbalanced")
        assert not (quiet and live.query(rule["expr"])), f"{rule['alert']} on a system that is well"


def test_what_is_scraped_is_consistent(live: Live) -> None:
    def same(left: str, right: str) -> bool:
        """Both come from one export of one actor, and so with one scrape."""
        return bool(live.query(f"({left}) == on (system) ({right})"))

    decisions = "sum by (system) (ray_dualpath_scheduler_decisions_total)"
    assert same("sum by (system) (ray_dualpath_path_requests_total)", decisions)
    assert same(
        "sum by (system) (ray_dualpath_path_tokens_total)",
        'sum by (system) (ray_dualpath_prompt_tokens_total{kind="hit"})',
    )
    ((_, hits),) = live.query('sum(rate(ray_dualpath_prompt_tokens_total{kind="hit"}[1m]))')
    ((_, read),) = live.query('sum(rate(ray_dualpath_nic_bytes_total{nic="snic", direction="in"}[1m]))')
    assert hits > 0 and read > 0
    ((_, balance),) = live.query("ray_dualpath_pool_balance_ratio")
    assert 1 <= balance <= 2, "of two nodes"
    busy = [value for _, value in live.query("ray_dualpath_nic_utilisation_ratio")]
    assert len(busy) == 8 and all(0 <= value <= 1 for value in busy)
    slots = live.query("sum by (node) (ray_dualpath_buffer_slots)")
    assert {labels["node"] for labels, _ in slots} == {"p0", "d0"} and all(value > 0 for _, value in slots)


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
