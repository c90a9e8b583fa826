"""What a killed run could not remove itself is removed by the next one: names carry the process that owned them."""

import os
import re
import shutil
import tempfile
from pathlib import Path

from dualpath_ray.kv.segment import PREFIX, SHM_DIR, creator_pid, sweep

_TEMPORARY = re.compile(r"^dualpath-(?:ray|store)-(\d+)-")


def temporary_dir(kind: str) -> Path:
    """A directory of this process, ``kind`` is ``ray`` or ``store``; whoever makes it removes it."""
    return Path(tempfile.mkdtemp(prefix=f"dualpath-{kind}-{os.getpid()}-"))


def sweep_dead() -> None:
    """Remove segments, sockets and temporary directories of processes that are gone."""
    for path in SHM_DIR.glob(f"{PREFIX}.*"):
        pid = creator_pid(path) if path.is_file() else None
        if pid is not None and not _alive(pid):
            sweep(path.name.split(".")[1])
    for path in Path(tempfile.gettempdir()).glob("dualpath-*"):
        match = _TEMPORARY.match(path.name)
        if match and not _alive(int(match.group(1))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's: not ours to judge
    return True
