"""A Ray head with its dashboard, a system that works on it, and a real Prometheus that scrapes it.

Grafana is in no Debian package: of it there is no more here than what says that it is well.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dualpath_ray.observability import panels
from tests.ray.nodes import BIN, ROOT, cluster_environment, end, free_ports, wait_up

TOOLS = ("prometheus", "promtool")
INTERVAL_S = 2  # of Ray's collection and of the scrapes here; both are 10 s otherwise


def our_row() -> str:
    """The queries of our panels in Ray's default dashboard, as Prometheus' page of graphs takes them."""
    queries = [target.query for panel in panels.ROWS[0].panels for target in panel.targets]
    asked = {}
    for number, query in enumerate(queries):
        text = query.replace("$SessionName", ".+").replace("$system", ".+").replace("$__rate_interval", "15s")
        asked |= {f"g{number}.expr": text, f"g{number}.tab": "0", f"g{number}.range_input": "2m"}
    return urllib.parse.urlencode(asked)


def until(what: Callable[[], Any], within_s: float) -> Any:
    """The first result that is true, or the last one."""
    deadline = time.monotonic() + within_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


class NoGrafana(BaseHTTPRequestHandler):
    """Says what Ray's dashboard asks before it shows its Metrics tab; Prometheus' own page answers for the dashboards.

    That page is there where the Debian package is installed, not only unpacked.
    """

    prometheus = ""

    def do_GET(self) -> None:
        well = self.path == "/api/health"
        self.send_response(200 if well else 302)
        if well:
            self.send_header("Content-Type", "application/json")
        else:
            self.send_header("Location", f"{self.prometheus}/graph?{our_row()}")
        self.end_headers()
        if well:
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
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        result = self.api("query", query=text)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]


@contextmanager
def live() -> Iterator[Live]:
    """A Ray head with its dashboard and profiling on, rollouts on it, and a Prometheus that scrapes it."""
    temp = Path(tempfile.mkdtemp(prefix="dp-prom-"))  # a short path: Ray's sockets are in it
    gcs, dashboard, export, client, agent, prometheus = free_ports(6)
    NoGrafana.prometheus = f"http://127.0.0.1:{prometheus}"
    env = {
        **cluster_environment(),
        "RAY_enable_metrics_collection": "1",
        "RAY_metrics_report_interval_ms": str(1000 * INTERVAL_S),
        "PYTHONPATH": str(ROOT),
        "RAY_PROFILING": "1",
        "RAY_PROMETHEUS_HOST": f"http://127.0.0.1:{prometheus}",
    }
    with ExitStack() as clean:
        grafana = clean.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), NoGrafana))
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
        driver = [sys.executable, "-m", "tests.slow.dashboard.rolling", f"127.0.0.1:{gcs}"]
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
