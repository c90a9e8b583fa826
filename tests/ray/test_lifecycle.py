"""``dualpath rollout`` as a user runs it: it minds its own business, and ends clean however it ends."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]
NAME = f"t-{secrets.token_hex(4)}"  # other systems on this machine are none of these tests' business
DUALPATH = Path(sys.executable).parent / "dualpath"
SLOW = {"node": {"snic_bps": "100 KB/s", "cnic_bps": "1 MB/s"}}  # a minute and more: long enough to be interrupted


def config_file(tmp_path: Path, more: dict[str, object] | None = None) -> Path:
    path = tmp_path / "config.yaml"  # JSON is YAML
    base = {"prefill_nodes": 1, "decode_nodes": 1, "model": "toy-llama", "block_tokens": 16, "name": NAME}
    path.write_text(json.dumps({**base, **(more or {})}))
    return path


def start(tmp_path: Path, config: Path, name: str = "out") -> subprocess.Popen[str]:
    command = [str(DUALPATH), "rollout", str(config), "--num-trajectories", "4", "--max-turns", "8"]
    command += ["--total-tokens", "400", "--no-verify-tokens", "--out", str(tmp_path / name)]
    with progress(tmp_path, name).open("w") as stdout:
        return subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=_hear_ctrl_c
        )


def progress(tmp_path: Path, name: str = "out") -> Path:
    """What a run has printed."""
    return tmp_path / f"{name}.log"


def _hear_ctrl_c() -> None:
    """Whatever runs in a shell's background inherits that SIGINT is ignored; these tests may."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_actor(process: subprocess.Popen[str], kind: str, tmp_path: Path) -> psutil.Process:
    """The process of an actor of this run, once requests are under way."""
    deadline = time.monotonic() + 90
    while "0/4 trajectories" not in progress(tmp_path).read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no request got under way"
        time.sleep(0.1)
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if f"ray::{kind}" in " ".join(child.cmdline()):
                return child
    raise AssertionError(f"there is no {kind}")


def traces(driver: int, pids: list[int]) -> list[str]:
    """Processes of the run that still live, and files that carry its marks."""
    files = [str(p) for p in Path("/dev/shm").glob(f"dualpath.{NAME}-*")]
    temporary = [str(p) for p in Path(tempfile.gettempdir()).glob(f"dp-*-{driver}-*")]
    return [f"process {pid}" for pid in alive(pids)] + files + temporary


def alive(pids: list[int]) -> list[int]:
    """Those that still run; an orphan that nobody reaps does not."""
    found = []
    for pid in pids:
        try:
            found += [pid] if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else []
        except psutil.NoSuchProcess:
            continue
    return found


def end(process: subprocess.Popen[str], pids: list[int]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=90)
    deadline = time.monotonic() + 20
    while traces(process.pid, pids) and time.monotonic() < deadline:
        time.sleep(0.2)  # killed processes take a moment to be reaped
    assert traces(process.pid, pids) == []
    return process.returncode, stderr


def family(process: subprocess.Popen[str]) -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


def actors(process: subprocess.Popen[str]) -> list[int]:
    """Those of the family that are actors of ours. Ray's own agents outlive a killed driver by a minute."""
    kinds = ("TrafficManager", "StorageNode", "PrefillEngine", "DecodeEngine", "DetachedScheduler")
    children = psutil.Process(process.pid).children(recursive=True)
    found = [child.pid for child in children if any(f"ray::{kind}" in " ".join(child.cmdline()) for kind in kinds)]
    assert len(found) >= len(kinds)
    return found


@pytest.mark.parametrize("kind", ["TrafficManager", "PrefillEngine", "DetachedScheduler", "StorageNode"])
def test_a_dead_process_ends_the_run_with_one_sentence(kind: str, tmp_path: Path) -> None:
    process = start(tmp_path, config_file(tmp_path, SLOW))
    victim = wait_for_actor(process, kind, tmp_path)
    pids = family(process)
    victim.kill()
    killed = time.monotonic()
    code, stderr = end(process, pids)
    assert code == 1 and time.monotonic() - killed < 90  # 30 s on an idle machine; the bound here only catches a hang
    sentences = [line for line in stderr.splitlines() if line.strip()]
    assert len(sentences) == 1, stderr


def test_a_cluster_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    command = [
        str(DUALPATH),
        "rollout",
        str(config_file(tmp_path)),
        "--out",
        str(tmp_path / "o"),
        "--address",
        "127.0.0.1:1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("dualpath: --address: no Ray cluster answers at 127.0.0.1:1")


def test_a_hung_process_ends_the_run_too(tmp_path: Path) -> None:
    process = start(tmp_path, config_file(tmp_path, SLOW))
    victim = wait_for_actor(process, "PrefillEngine", tmp_path)
    pids = family(process)
    victim.suspend()
    code, stderr = end(process, pids)
    assert code == 1 and stderr.count("\n") == 1 and "does not answer within 20 s" in stderr


def test_a_terminated_run_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start(tmp_path, config_file(tmp_path, SLOW))
    wait_for_actor(process, "DecodeEngine", tmp_path)
    pids = family(process)
    process.terminate()
    code, stderr = end(process, pids)
    assert code == 143 and "Traceback" not in stderr


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    process = start(tmp_path, config_file(tmp_path, SLOW))
    wait_for_actor(process, "DecodeEngine", tmp_path)
    pids = family(process)
    process.send_signal(signal.SIGINT)
    code, stderr = end(process, pids)
    assert code == 130 and "Traceback" not in stderr


def test_what_a_killed_run_leaves_the_next_one_removes(tmp_path: Path) -> None:
    process = start(tmp_path, config_file(tmp_path, SLOW))
    wait_for_actor(process, "DecodeEngine", tmp_path)
    pids = actors(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.2)
    after = start(tmp_path, config_file(tmp_path), "after")
    code, stderr = end(after, pids)
    assert code == 0, stderr
    assert traces(process.pid, pids) == []


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    both = [start(tmp_path, config_file(tmp_path), name) for name in ("one", "two")]
    for process in both:
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
    hits = [
        json.loads((tmp_path / name / "summary.json").read_text())["runs"][0]["hit_tokens"] for name in ("one", "two")
    ]
    assert hits[0] == hits[1] > 0
    for process in both:
        assert traces(process.pid, []) == []
