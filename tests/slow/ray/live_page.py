"""A system that serves its live page, rollouts on it, and Debian's Chromium to look: for tests and pictures of the page."""

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from dualpath_ray.cli.main import run
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.attach import facts_of, running_systems
from dualpath_ray.cluster.page import page_address
from tests.ray.nodes import free_ports

CHROMIUM = shutil.which("chromium")
CONFIG = """\
prefill_nodes: 1
decode_nodes: 2
model: toy-llama
block_tokens: 16
node: {snic_bps: 2 MB/s, cnic_bps: 20 MB/s}
engine: {cpus: 0.5}
"""
WORK = ("--num-trajectories", "8", "--max-turns", "6", "--total-tokens", "2000", "--max-gen", "4")


@dataclass(frozen=True, slots=True)
class Live:
    """A running system with a page."""

    name: str
    config: Path
    runs: Path
    url: str
    ray_address: str

    @property
    def scheduler(self) -> dict[str, Any]:
        """Its status, from the scheduler itself."""
        told: dict[str, Any] = ask(facts_of(self.name)[0].status.remote(), "the scheduler")
        return told

    def command(self, *arguments: str) -> int:
        """The exit code of ``dualpath``."""
        return run([*arguments, "--address", self.ray_address])

    def roll_out(self, name: str, work: Sequence[str] = WORK) -> None:
        """A rollout on it; its results are among the page's past runs."""
        out = str(self.runs / name)
        command = ("rollout", str(self.config), "--system", self.name, *work, "--no-verify-tokens", "--out", out)
        assert self.command(*command) == 0

    @contextmanager
    def loaded(self, work: Sequence[str] = WORK) -> Iterator[None]:
        """Rollouts follow one another; the last one is over at the end."""
        over = threading.Event()
        failed: list[BaseException] = []

        def keep_busy() -> None:
            number = len(list(self.runs.iterdir())) if self.runs.exists() else 0
            try:
                while not over.is_set():
                    number += 1
                    self.roll_out(f"run-{number}", work)
            except BaseException as error:
                failed.append(error)

        load = threading.Thread(target=keep_busy)
        load.start()
        try:
            yield
        finally:
            over.set()
            load.join()
        assert not failed, failed


@contextmanager
def live(folder: Path, name: str, config: str = CONFIG) -> Iterator[Live]:
    """``dualpath up --ui-port``, and ``dualpath down`` at the end, within the Ray that this process is in."""
    (port,) = free_ports(1)
    path, runs = folder / "config.yaml", folder / "runs"
    path.write_text(f"{config}ui: {{runs: {runs}}}\n")
    system = Live(name, path, runs, f"http://127.0.0.1:{port}/", ray.get_runtime_context().gcs_address)
    try:
        assert system.command("up", str(path), "--name", name, "--ui-port", str(port)) == 0
        assert page_address(name) == system.url
        yield system
    finally:
        if name in running_systems():
            assert system.command("down", "--name", name, "--within", "10") == 0


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser. In a container nobody may make namespaces, so it does without its sandbox."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
