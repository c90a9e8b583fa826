"""How much memory a run takes: the proportional set sizes of all its processes, plus its files in /dev/shm."""

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

from dualpath_ray.kv.segment import PREFIX, SHM_DIR

_INTERVAL_S = 10.0


class MemoryMeter:
    """Samples this process and all its descendants while it is open; ``peak_bytes`` is the most that was seen.

    What a process maps of /dev/shm counts in its share as well as in the files: the sum errs on the high side.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-meter", daemon=True)

    def __enter__(self) -> "MemoryMeter":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, system_bytes())


def system_bytes() -> int:
    """Memory of this process, its descendants and every segment and store of ours in /dev/shm, now."""
    me = psutil.Process()
    processes = [me, *me.children(recursive=True)]
    files = [p for path in SHM_DIR.glob(f"{PREFIX}.*") for p in (path.rglob("*") if path.is_dir() else [path])]
    total = sum(_pss_bytes(p.pid) for p in processes)
    for file in files:
        with suppress(FileNotFoundError):  # evicted or removed meanwhile
            total += file.stat().st_blocks * 512
    return total


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):  # the process has just ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
