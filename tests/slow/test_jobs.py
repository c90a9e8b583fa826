"""Ray jobs on a cluster with nothing installed but Ray: submitted, killed half-way, resumed, refused."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.ray.nodes import ROOT, Cluster, free_ports

pytestmark = pytest.mark.timeout(1200)
CONFIG = "prefill_nodes: 1\ndecode_nodes: 1\nmodel: toy-llama\nblock_tokens: 16\nname: jobtest\nengine: {cpus: 1}\n"
SLOW = "node: {snic_bps: 100 KB/s, cnic_bps: 2 MB/s}\n"
WORK = ["--num-trajectories", "4", "--max-turns", "6", "--total-tokens", "300", "--compare", "prefill_only,scheduled"]
TURNS = 4 * 6
ENVIRONMENT = ["--runtime-env", "jobs/runtime_env.yaml"]


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """A Ray of its own environment, in which there is nothing else."""
    with tempfile.TemporaryDirectory(prefix="dp-j-", ignore_cleanup_errors=True) as temp:
        programs = Path(temp) / "env" / "bin"
        subprocess.run([sys.executable, "-m", "venv", str(programs.parent)], check=True, timeout=120)
        install = [str(programs / "python"), "-m", "pip", "install", "-q", "-c", "constraints.txt", "ray[default]"]
        subprocess.run(install, cwd=ROOT, check=True, timeout=600)
        cluster = Cluster(Path(temp), programs)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(CONFIG + SLOW)
    return path


def until(what: Callable[[], bool], cluster: Cluster, job: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, cluster.run("ray", "job", "logs", cluster.api, job).stdout[-3000:]
        time.sleep(0.5)


def state(cluster: Cluster, job: str) -> str:
    """As the dashboard tells it."""
    token = {"Authorization": f"Bearer {cluster.env['RAY_AUTH_TOKEN']}"}
    with urlopen(Request(f"http://127.0.0.1:{cluster.dashboard}/api/jobs/{job}", headers=token), timeout=30) as answer:
        return str(json.load(answer)["status"])


def turns_kept(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in out.glob("progress/*/*.jsonl"))


def test_a_job_that_was_killed_half_way_goes_on(bare: Cluster, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rollout = ["python", "jobs/rollout.py", str(config), *WORK, "--resume", "--out", str(out)]
    first = bare.submit(*rollout, flags=[*ENVIRONMENT, "--no-wait", "--submission-id=first"])
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    until(lambda: turns_kept(out) >= TURNS // 2, bare, "first", 900)  # the environment is installed meanwhile
    pages = re.findall(r"live page: (http://\S+)", bare.run("ray", "job", "logs", bare.api, "first").stdout)
    with urlopen(f"{pages[-1]}api/status", timeout=30) as answer:
        assert json.load(answer)["nodes"], "the page that the job's log names shows its system"
    assert bare.run("ray", "job", "stop", bare.api, "first").returncode == 0
    until(lambda: state(bare, "first") == "STOPPED", bare, "first", 60)
    kept = turns_kept(out)
    assert TURNS // 2 <= kept < 2 * TURNS and not (out / "progress" / "scheduled" / "run.json").exists()
    resumes = (
        kept != TURNS or not (out / "progress" / "prefill_only" / "run.json").exists()
    )  # else it stopped between two runs
    until(lambda: not list(Path("/dev/shm").glob("dualpath.jobtest-*")), bare, "first", 30)

    (port,) = free_ports(1)  # one system after the other has its page there
    second = bare.submit(*rollout, "--ui-port", str(port), flags=ENVIRONMENT)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    pages = re.findall(r"live page: (.*)", second.stdout)
    assert pages and set(pages) == {f"http://127.0.0.1:{port}/"}, second.stdout
    assert "turns that were finished before" in second.stdout or "was complete before" in second.stdout
    assert "SNIC reads" in second.stdout, "the log tells how far it is"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["tokens_identical"]
    assert [run["num_turns"] for run in summary["runs"]] == [TURNS, TURNS]
    assert sorted(run["num_parts"] for run in summary["runs"]) == ([1, 2] if resumes else [1, 1])
    assert not (out / "progress").exists()


def test_a_job_that_cannot_run_fails_and_says_why(bare: Cluster, config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("toy-llama", "toy-lama"))
    failed = bare.submit("python", "jobs/rollout.py", str(config), "--out", str(tmp_path / "o"), flags=ENVIRONMENT)
    assert failed.returncode != 0
    assert f"dualpath: {config}: model: " in failed.stdout
