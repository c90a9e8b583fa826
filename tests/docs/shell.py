"""A reader's shell: a copy of the tree, a home of its own, and the blocks of a document one after the other."""

import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from dualpath_ray.engine.pull import pull
from tests.docs.blocks import Block
from tests.ray.nodes import BIN, ROOT

MODEL = "smollm2-135m"
# What is not part of a fresh checkout.
_NOT_COPIED = (".git", ".venv", "runs", "build", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", ".whl")
# Processes, network and shared memory of its own: `ray stop` ends no other Ray, ports are free, and all of it goes with the shell.
_AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
_NAMESPACES = ["unshare", *_AS_ROOT, "--pid", "--net", "--mount", "--fork", "--mount-proc", "--kill-child"]
_SET_UP = "mount -t tmpfs tmpfs /dev/shm && ip link set lo up"
# A failing command says where it stands, and ends the shell: what follows would rest on it.
_TRAP = """set -E -o pipefail; trap 'echo "failed $? $LINENO $BASH_COMMAND" >&{fd}; exit 1' ERR\n"""


class DocsError(AssertionError):
    """Names document, line and command, and what was printed."""


def why_no_namespaces() -> str | None:
    if any(shutil.which(tool) is None for tool in ("ip", "unshare", "mount")):
        return "no network namespaces here: needs iproute2 and util-linux"
    command = [*_NAMESPACES, "sh", "-c", _SET_UP]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()[-200:]}"


def _copy_tree(to: Path) -> None:
    """What a fresh checkout has: files that git knows, as they are now; without git, all but what tools leave behind."""
    known = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    if known.returncode != 0:
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        return
    for name in known.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


class ReadersShell:
    """Bash, in a fresh copy of the tree. What a block exports, changes to or writes is there for the next one."""

    def __init__(self, home: Path, isolated: bool) -> None:
        """Args: home: an empty folder with a short path, since sockets of Ray lie below it."""
        self._tree = home / "tree"
        _copy_tree(self._tree)
        models = home / "dp" / "models"
        models.mkdir(parents=True)
        (models / MODEL).symlink_to(pull(MODEL))
        self._blocks = home / "blocks"
        self._blocks.mkdir()
        ours = {
            "HOME": str(home),
            "RAY_TMPDIR": str(home),
            "DUALPATH_HOME": str(home / "dp"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self._tree),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for one another take many times as long on a busy machine
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",  # a busy machine may take longer
            "RAY_agent_register_timeout_ms": "120000",
        }
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | ours
        self._log = home / "printed.txt"
        self._said, told = os.pipe()
        start = [*_NAMESPACES, "sh", "-c", f"{_SET_UP} && exec bash --norc"] if isolated else ["bash", "--norc"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                start,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env,
                cwd=self._tree,
                pass_fds=[told],
                start_new_session=True,
            )
        self._fd = told
        self._write(_TRAP.format(fd=told))
        os.close(told)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # where it is isolated, with all that the blocks have started
        self._process.wait(30)
        os.close(self._said)

    def run(self, block: Block, within_s: float) -> str:
        """What it prints. Raises: DocsError when a command of it fails, or when it takes longer."""
        file = self._blocks / f"{block.line}.sh"
        file.write_text("\n" * (block.line - 1) + block.text)  # so that bash counts the document's lines
        printed_before = self._log.stat().st_size
        self._write(f'source "{file}" </dev/null; echo done >&{self._fd}\n')
        said = self._answer(within_s)
        printed = self._log.read_bytes()[printed_before:].decode(errors="replace")
        if said == "done":
            return printed
        if said.startswith("failed "):
            _, code, line, command = said.split(" ", 3)
            what = f"{block.document}:{line}: exit code {code} of: {command}"
        else:
            what = f"{block.where}: {said}:\n{block.text}"
        raise DocsError(f"{what}\nprinted:\n{printed[-4000:]}")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()

    def _answer(self, within_s: float) -> str:
        deadline = time.monotonic() + within_s
        answer = b""
        while not answer.endswith(b"\n"):
            readable, _, _ = select.select([self._said], [], [], 0.5)
            if readable:
                got = os.read(self._said, 4096)
                if not got:
                    return "the shell has ended"
                answer += got
            elif self._process.poll() is not None:
                return "the shell has ended"
            elif time.monotonic() > deadline:
                return f"took longer than {within_s:.0f} s"
        return answer.decode().strip().splitlines()[0]
