"""Ray nodes as processes of ours: how they are started, waited for and ended."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
Run = Callable[[str, float], "subprocess.CompletedProcess[str]"]  # a Python script, and the seconds that it may take


def cluster_environment() -> dict[str, str]:
    """The same for all who belong to a cluster, with a token of its own; a busy machine may take longer."""
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": "120000",  # a raylet ends itself after this
    }


def wait_up(run: Run, address: str, num_nodes: int, logs: Path) -> None:
    """Until a cluster has so many nodes. Raises: AssertionError with the ends of the logs."""
    script = (
        "import ray,sys,time\n"
        f"ray.init(address='{address}', log_to_driver=False, logging_level='ERROR')\n"
        "end=time.time()+90\n"
        f"while len([n for n in ray.nodes() if n['Alive']])<{num_nodes} and time.time()<end: time.sleep(0.5)\n"
        f"sys.exit(len([n for n in ray.nodes() if n['Alive']])!={num_nodes})\n"
    )
    deadline = time.monotonic() + 150
    while (tried := run(script, 200)).returncode:
        said = "".join(path.read_text(errors="replace")[-2000:] for path in logs.glob("*.log"))
        assert time.monotonic() < deadline, f"the cluster is not up: {tried.stderr[-2000:]} {said}"
        time.sleep(1)


def end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """The last one first; each is a blocking ``ray start``."""
    for process in reversed(processes):
        process.terminate()
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
