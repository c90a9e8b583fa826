"""A real Prometheus scrapes a live cluster: every query of every panel and alert is run against it.

Needs prometheus and promtool (Debian: prometheus; `.ci/run` unpacks it). Grafana is in no Debian package: its dashboard is
checked query by query, and of Grafana itself there is no more here than what says that it is well.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from dualpath_ray.observability import dashboard, panels
from dualpath_ray.observability.metrics import CATALOGUE
from dualpath_ray.observability.shipped import alert_rules
from tests.ray.nodes import BIN, ROOT, cluster_environment, end, wait_up

TOOLS = ("prometheus", "promtool")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(280),
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {' and '.join(TOOLS)}"),
]
INTERVAL_S = 2  # of Ray's collection and of the scrapes here; both are 10 s otherwise
ACTORS = {
    "scheduler": r"Scheduler of SYSTEM",
    "traffic/p0": r"TrafficManager p0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "traffic/d0": r"TrafficManager d0 \(snic emulated 3\.0 MB/s, cnic (\S+ )?emulated 30\.0 MB/s\)",
    "prefill/p0/e0": r"PrefillEngine p0/e0 on cpu",
    "decode/d0/e0": r"DecodeEngine d0/e0 on cpu",
    "storage/0": r"StorageNode 0 at /\S+",
}


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def until(what: Callable[[], Any], within_s: float) -> Any:
    """The first result that is true, or the last one."""
    deadline = time.monotonic() + within_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


class GrafanaIsWell(BaseHTTPRequestHandler):
    """What Ray's dashboard asks before it shows its Metrics tab."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"database": "ok"}')

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


@dataclass
class Live:
    """A Ray head, a system that works on it, and a Prometheus."""

    session: Path
    system: str
    dashboard: str
    prometheus: str
    token: str

    def ray(self, path: str) -> Any:
        """What the page of Ray's dashboard reads."""
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def api(self, path: str, **query: str) -> Any:
        """Of Prometheus."""
        try:
            with urllib.request.urlopen(
                f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=30
            ) as a:
                return json.load(a)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{query}: {error.read().decode()}")

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        result = self.api("query", query=text)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    temp = Path(tempfile.mkdtemp(prefix="dp-prom-"))  # a short path: Ray's sockets are in it
    gcs, dashboard, export, client, agent, prometheus = free_ports(6)
    env = {
        **cluster_environment(),
        "RAY_enable_metrics_collection": "1",
        "RAY_metrics_report_interval_ms": str(1000 * INTERVAL_S),
        "PYTHONPATH": str(ROOT),
        "RAY_PROMETHEUS_HOST": f"http://127.0.0.1:{prometheus}",
    }
    with ExitStack() as clean:
        grafana = clean.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), GrafanaIsWell))
        threading.Thread(target=grafana.serve_forever, daemon=True).start()
        clean.callback(grafana.shutdown)
        env["RAY_GRAFANA_HOST"] = f"http://127.0.0.1:{grafana.server_port}"
        clean.callback(shutil.rmtree, temp, ignore_errors=True)

        def begin(name: str, command: list[str], **more: Any) -> "subprocess.Popen[bytes]":
            log = clean.enter_context((temp / f"{name}.log").open("wb"))
            more.setdefault("stdout", log)
            process = subprocess.Popen(command, env=env, cwd=ROOT, stderr=log, **more)
            clean.callback(end, [process])
            return process

        def python(script: str, timeout_s: float) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-c", script]
            return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)

        ray = [
            str(BIN / "ray"),
            "start",
            "--head",
            "--block",
            "--num-cpus=4",
            f"--port={gcs}",
            f"--temp-dir={temp}/ray",
        ]
        ray += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        ray += [f"--metrics-export-port={export}", f"--ray-client-server-port={client}"]
        ray += [f"--dashboard-agent-listen-port={agent}", "--node-ip-address=127.0.0.1"]
        begin("head", [*ray, "--object-store-memory=100000000", "--disable-usage-stats"])
        wait_up(python, f"127.0.0.1:{gcs}", 1, temp)
        driver = [sys.executable, "-m", "tests.slow.rolling", f"127.0.0.1:{gcs}"]
        rolling = begin("rolling", driver, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert rolling.stdout is not None and rolling.stdin is not None
        told = rolling.stdout.readline()
        assert told, (temp / "rolling.log").read_text(errors="replace")[-3000:]

        session = (temp / "ray" / "session_latest").resolve()
        assert until((session / "metrics" / "prometheus" / "prometheus.yml").is_file, 30)
        install = [sys.executable, "-c", "from dualpath_ray.cli.main import main; main()", "dashboards", "install"]
        done = subprocess.run(
            [*install, "--session", session], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        config = (session / "metrics" / "prometheus" / "prometheus.yml").read_text()
        (temp / "quick.yml").write_text(re.sub(r"(_interval:) 10s", rf"\1 {INTERVAL_S}s", config))
        command = [
            "prometheus",
            f"--config.file={temp}/quick.yml",
            f"--storage.tsdb.path={temp}/tsdb",
            "--log.level=warn",
        ]
        begin("prometheus", [*command, f"--web.listen-address=127.0.0.1:{prometheus}"])
        made = Live(
            session,
            json.loads(told)["system"],
            f"http://127.0.0.1:{dashboard}",
            f"http://127.0.0.1:{prometheus}",
            env["RAY_AUTH_TOKEN"],
        )

        def scraped() -> bool:
            try:
                return bool(made.query("count_over_time(ray_dualpath_jct_seconds_count[2m]) > 3"))
            except (OSError, urllib.error.URLError):
                return False

        assert until(scraped, 90), (temp / "prometheus.log").read_text(errors="replace")[-3000:]
        yield made
        rolling.stdin.close()  # the system stops by itself
        last = rolling.stdout.read()
        assert rolling.wait(60) == 0 and json.loads(last)["rounds"] >= 1


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
