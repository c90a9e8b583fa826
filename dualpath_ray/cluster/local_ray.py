"""The Ray of ``dualpath up`` where there is none: it outlives the command, and is ended by ``dualpath down``."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from ray._private.utils import get_ray_address_file

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.placement import OBJECT_STORE_BYTES, machines_ray

_START_S = 120.0
_END_S = 30.0


@dataclass(frozen=True, slots=True)
class LocalRay:
    """A Ray that this user started by ``dualpath up``."""

    pid: int
    created_s: float  # a process id may be given again
    address: str

    def process(self) -> psutil.Process | None:
        """None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            return process if abs(process.create_time() - self.created_s) < 1.0 and process.is_running() else None
        except psutil.NoSuchProcess:
            return None


def state_file() -> Path:
    """Where it is written down."""
    home = os.environ.get("DUALPATH_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".cache" / "dualpath") / "local_ray.json"


def local_ray() -> LocalRay | None:
    """The one that runs, if one does."""
    try:
        found = LocalRay(**json.loads(state_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.process() is not None else None


def start_local_ray(num_cpus: int, num_gpus: int) -> LocalRay:
    """Start Ray on this machine, as ``ray start --head`` does, with its dashboard.

    Raises: ConfigError when it does not come up.
    """
    file = state_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    log = file.with_suffix(".log")
    command = [_ray(), "start", "--head", "--block", "--port=0", f"--num-cpus={num_cpus}", f"--num-gpus={num_gpus}"]
    command += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-dashboard=true", "--disable-usage-stats"]
    command += ["--dashboard-agent-listen-port=0"]  # any: another Ray of this machine may have the usual one
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    # Without the user's token, which Ray keeps in the home folder, it would let anybody in.
    subprocess.run([_ray(), "get-auth-token", "--generate"], capture_output=True, timeout=_START_S, check=False)
    with log.open("w") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )
    deadline = time.monotonic() + _START_S
    while (address := _address(log.read_text(errors="replace"))) is None:
        if started.poll() is not None or time.monotonic() > deadline:
            end_tree(psutil.Process(started.pid)) if started.poll() is None else None
            said = " ".join(log.read_text(errors="replace").split()[-40:])
            raise ConfigError(f"Ray could not be started ({said}); start one yourself and name it with --address")
        time.sleep(0.2)
    found = LocalRay(started.pid, psutil.Process(started.pid).create_time(), address)
    file.write_text(json.dumps(asdict(found)))
    return found


def _ray() -> str:
    """The command of the Ray that is imported here."""
    beside = Path(sys.executable).with_name("ray")
    return str(beside) if beside.exists() else shutil.which("ray") or "ray"


def _address(said: str) -> str | None:
    """From what ``ray start`` prints once it is up."""
    for line in said.splitlines():
        if "--address='" in line:
            return line.partition("--address='")[2].partition("'")[0]
    return None


def end_local_ray(ray: LocalRay) -> None:
    """End it and all of its processes, and forget it."""
    process = ray.process()
    if process is not None:
        end_tree(process)
    if machines_ray() == ray.address:
        Path(get_ray_address_file(None)).unlink(
            missing_ok=True
        )  # as `ray stop` does, which would stop every Ray of this machine
    state_file().unlink(missing_ok=True)
    state_file().with_suffix(".log").unlink(missing_ok=True)


def end_tree(process: psutil.Process) -> None:
    """Ask a process to end; it, and what it leaves behind, is killed if it does not."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=_END_S)
    for left in alive:
        try:
            left.kill()
        except psutil.NoSuchProcess:
            continue
