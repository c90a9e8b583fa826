"""Pictures of the live page under load, for the README: ``make screenshots``. A real system, real rollouts, a real browser."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dualpath_ray.cli.main import run
from dualpath_ray.cluster.placement import RaySession
from tests.slow.ray.live_page import CHROMIUM, Live, chromium, live

NAME = "demo"
WIDTH = 1240
WORK = ("--num-trajectories", "12", "--max-turns", "12", "--total-tokens", "3000", "--max-gen", "8")
SMALL = ("--num-trajectories", "8", "--max-turns", "8", "--total-tokens", "2000", "--max-gen", "4")
BEFORE_S, AFTER_S = 45.0, 35.0  # under load before the switch is flipped, and from there to a picture


def main(folder: Path) -> int:
    """Write ``live_dual.png`` (light) and ``live_single.png`` (dark)."""
    if CHROMIUM is None:
        print("screenshots: the Debian package chromium is not here", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    session = RaySession()
    session.open(None, 4)
    try:
        with tempfile.TemporaryDirectory() as temporary, live(Path(temporary), NAME) as system:
            compared = ("--compare", "prefill_only,scheduled", "--out", str(system.runs / "both-paths"))
            assert run(["rollout", str(system.config), *SMALL, "--no-verify-tokens", *compared]) == 0
            with chromium() as browser:
                take(browser, system, folder)
    finally:
        session.close()
    return 0


def take(browser: Any, system: Live, folder: Path) -> None:
    """One page after the other, while rollouts follow one another."""
    pages = {
        scheme: browser.new_page(viewport={"width": WIDTH, "height": 860}, color_scheme=scheme)
        for scheme in ("light", "dark")
    }
    for page in pages.values():
        page.goto(system.url)
    with system.loaded(WORK):
        time.sleep(BEFORE_S)
        for scheme, key, name in (("dark", "1", "live_single"), ("light", "2", "live_dual")):
            page = pages[scheme]
            page.keyboard.press(key)
            page.wait_for_timeout(AFTER_S * 1000)
            if name == "live_dual":
                for mode in ("prefill_only", "scheduled"):
                    page.get_by_role("checkbox", name=f"compare both-paths, {mode}").check()
            page.wait_for_timeout(1500)
            page.evaluate("scrollTo(0, 0)")
            box = page.locator("main > section").last.bounding_box()  # past runs, of which one picture is enough
            height = box["y"] + (box["height"] + 30 if name == "live_dual" else -20)
            page.screenshot(
                path=folder / f"{name}.png", full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height}
            )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")))
