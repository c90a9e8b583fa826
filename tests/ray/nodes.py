"""Ray nodes as processes of ours: how they are started, waited for and ended."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
Run = Callable[[str, float], "subprocess.CompletedProcess[str]"]  # a Python script, and the seconds that it may take


def cluster_environment(programs: Path = BIN) -> dict[str, str]:
    """The same for all who belong to a cluster, with a token of its own; a busy machine may take longer."""
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
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


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Cluster:
    """A head and workers, each a blocking ``ray start``; ending these processes ends the cluster."""

    def __init__(self, temp: Path, programs: Path = BIN) -> None:
        """Args: temp: for logs and Ray's sessions, with a short path; programs: folder of the ``ray`` and ``python`` to use."""
        self.port, self.dashboard, self.client = free_ports(3)
        self.env = cluster_environment(programs)
        self._programs = programs
        self._logs = temp
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *more: str) -> None:
        """The head, with two CPUs. Args: more: flags of ``ray start``."""
        self._start(
            [
                "--head",
                f"--port={self.port}",
                f"--dashboard-port={self.dashboard}",
                f"--ray-client-server-port={self.client}",
            ],
            "storage",
            "--num-cpus=2",
            f"--temp-dir={self._logs / 'ray'}",
            *more,
        )
        self.wait_up(1)

    def join(self, role: str) -> None:
        """One more node, with a CPU: one at a time, as two of one machine share the session's folder and can hang."""
        self._start([f"--address=127.0.0.1:{self.port}"], role, "--num-cpus=1")
        self.wait_up(len(self._processes))

    def _start(self, args: list[str], role: str, *more: str) -> None:
        log = (self._logs / f"{role}.log").open("wb")
        command = [str(self._programs / "ray"), "start", "--block", *args, f"--labels=dualpath-role={role}", *more]
        command += ["--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0", "--object-store-memory=100000000"]
        self._processes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))

    def submit(self, *job: str, flags: Sequence[str] = (), timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """``ray job submit`` of a command, from the repository. Args: flags: of submit itself."""
        submit = [str(self._programs / "ray"), "job", "submit", self.api, "--working-dir=.", *flags, "--", *job]
        return self.run(*submit, timeout_s=timeout_s)

    @property
    def api(self) -> str:
        """As a flag of ``ray job``."""
        return f"--address=http://127.0.0.1:{self.dashboard}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def run(self, *command: str, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def wait_up(self, num_nodes: int) -> None:
        def run(script: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
            return self.run(str(self._programs / "python"), "-c", script, timeout_s=timeout_s)

        wait_up(run, self.address, num_nodes, self._logs)

    def stop(self) -> None:
        end(self._processes)
