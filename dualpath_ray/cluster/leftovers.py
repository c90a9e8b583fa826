"""What a killed run could not remove itself is removed by the next one: names carry the process that owned them."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from dualpath_ray.kv.segment import PREFIX, SHM_DIR, pid_namespace, segment_creator, sweep

_TEMPORARY = re.compile(r"^dualpath-(?:ray|store)-(\d+)-(\d+)-")  # process id namespace, process id


def temporary_dir(kind: str) -> Path:
    """A directory of this process, ``kind`` is ``ray`` or ``store``; whoever makes it removes it."""
    return Path(tempfile.mkdtemp(prefix=f"dualpath-{kind}-{pid_namespace()}-{os.getpid()}-"))


def kept_dir(kind: str) -> Path:
    """A directory that stays when its process ends."""
    return Path(tempfile.mkdtemp(prefix=f"dualpath-kept-{kind}-"))


def sweep_dead() -> None:
    """Remove segments, sockets and temporary directories of processes that are gone.

    A process id says nothing about another namespace's processes (containers may share /dev/shm): those are left alone.
    """
    for path in SHM_DIR.glob(f"{PREFIX}.*"):
        creator = segment_creator(path) if path.is_file() else None
        if creator is not None and creator[0] == pid_namespace() and not _alive(creator[1]):
            sweep(path.name.split(".")[1])
    for path in Path(tempfile.gettempdir()).glob("dualpath-*"):
        match = _TEMPORARY.match(path.name)
        if match and int(match.group(1)) == pid_namespace() and not _alive(int(match.group(2))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's: not ours to judge
    return True
