"""What a killed run could not remove itself is removed by the next one: names carry the process that owned them."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from dualpath_ray.kv.segment import PREFIX, SHM_DIR, pid_namespace, segment_creator, sweep

_TEMPORARY = re.compile(r"^dp-(?:ray|store)-([0-9a-z]+)-(\d+)-")  # process id namespace in base 36, process id
_SHORT_TEMP = Path("/tmp")
# Linux limits the path of a socket to 107 bytes, and Ray puts this below the directory that it is given.
_LONGEST_PARENT = 107 - len(
    "/dp-ray-0000000-4194304-xxxxxxxx/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)


def temporary_dir(kind: str) -> Path:
    """A directory of this process, ``kind`` is ``ray`` or ``store``; whoever makes it removes it.

    It is in the user's temporary directory, but Ray's in /tmp where that one's path is too long for Ray's sockets.
    """
    parent = Path(tempfile.gettempdir())
    if kind == "ray" and len(str(parent)) > _LONGEST_PARENT and os.access(_SHORT_TEMP, os.W_OK):
        parent = _SHORT_TEMP
    return Path(tempfile.mkdtemp(prefix=f"dp-{kind}-{_namespace()}-{os.getpid()}-", dir=parent))


def _namespace() -> str:
    return np.base_repr(pid_namespace(), 36).lower()


def kept_dir(kind: str) -> Path:
    """A directory that stays when its process ends."""
    return Path(tempfile.mkdtemp(prefix=f"dualpath-kept-{kind}-"))


def sweep_dead() -> None:
    """Remove segments, sockets and temporary directories of processes that are gone.

    A process id says nothing about another namespace's processes (containers may share /dev/shm): those are left alone.
    """
    creators: dict[str, list[tuple[int, int]]] = {}  # of each system's segments
    for path in SHM_DIR.glob(f"{PREFIX}.*"):
        creator = segment_creator(path) if path.is_file() else None
        if creator is not None:
            creators.setdefault(path.name.split(".")[1], []).append(creator)
    for system, made_by in creators.items():
        # A system that lost one process goes on with the others' segments.
        if all(namespace == pid_namespace() and not _alive(pid) for namespace, pid in made_by):
            sweep(system)
    for parent in {Path(tempfile.gettempdir()), _SHORT_TEMP}:
        for path in parent.glob("dp-*"):
            match = _TEMPORARY.match(path.name)
            if match and match.group(1) == _namespace() and not _alive(int(match.group(2))):
                shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's: not ours to judge
    return True
