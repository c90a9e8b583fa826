"""Block files of a mounted 3FS through its USRBIO rings: the bytes go into the slot without a copy (section 7, setup).

Names, folders and metadata go through the FUSE mount like those of any directory; only reads and writes take the rings.
Written after the documented contract of 3FS's Python binding and tested against a fake of it; never run on a 3FS.
"""

import errno
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.storage.file_io import IO_LIMIT_S, KernelIo, UnendedIoError, refuse_if_stuck

_ENTRIES = 8  # of a ring, which serves one thread: one operation at a time


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the binding asks of ``multiprocessing.shared_memory.SharedMemory``: a name in /dev/shm, and its bytes."""

    name: str
    buf: memoryview


class UsrbioIo:
    """FileIo over ``hf3fs_fuse.io``. A ring is no thing of several threads, so each thread has two of its own."""

    name = "usrbio"
    direct = False  # the rings go past the page cache whatever the flags

    def __init__(self, root: str, limit_s: float = IO_LIMIT_S) -> None:
        """Args:   limit_s: of one block.
        Raises: ConfigError naming ``storage.store`` when the binding is missing or ``root`` is on no 3FS.
        """
        try:
            from hf3fs_fuse import io
        except ImportError as error:
            raise ConfigError(
                f"storage.store: usrbio needs 3FS's Python package hf3fs_py_usrbio on this machine ({error})"
            ) from error
        self._binding, self._limit = io, timedelta(seconds=limit_s)
        self._mount = io.extract_mount_point(root)
        if not self._mount:
            raise ConfigError(f"storage.store: usrbio needs a directory on a mounted 3FS, and {root} is on none")
        self._rings = threading.local()
        self._memory: np.ndarray | None = None
        self._iov: Any = None
        self._unended: list[Any] = []  # rings with an operation that the daemon may be at yet

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Register the pool, once: 3FS's daemon maps the same shared memory."""
        shared = _Shared(path.removeprefix("/dev/shm/"), memory.data)
        self._memory, self._iov = memory, self._binding.make_iovec(shared, self._mount, 0, -1)

    def read(self, fd: int, slot: np.ndarray) -> int:
        return self._move(fd, slot, True)

    def write(self, fd: int, slot: np.ndarray) -> None:
        moved = self._move(fd, slot, False)
        if moved != len(slot):
            raise OSError(0, f"wrote {moved} of {len(slot)} bytes")

    def _move(self, fd: int, slot: np.ndarray, for_read: bool) -> int:
        refuse_if_stuck(self._unended)
        offset = self._offset(slot)
        if offset is None:  # not of the pool: through the mount
            return self._through_mount(fd, slot, for_read)
        ring = self._ring(for_read)
        self._binding.register_fd(fd)
        try:
            ring.prepare(self._iov[offset : offset + len(slot)], for_read, fd, 0)
        except BaseException:
            self._binding.deregister_fd(fd)
            raise
        result = self._result(ring, for_read)
        self._binding.deregister_fd(fd)
        if result < 0:
            raise OSError(-result, "3FS refused the operation")
        return result

    def _result(self, ring: Any, for_read: bool) -> int:
        """Bytes that the prepared operation has moved, or a negative error number. From here on the daemon may be at it.

        Raises: UnendedIoError; the ring is not used again, since a late result would be taken for the next one's.
        """
        try:
            done = ring.submit().wait(min_results=1, timeout=self._limit)
            why = f"did not end within {self._limit.total_seconds():g} s"
        except Exception as error:  # the binding raises classes of its own
            done, why = [], f"was given up: {type(error).__name__}: {error}"
        if done:
            return int(done[0].result)
        self._unended.append(ring)
        delattr(self._rings, "read" if for_read else "write")
        raise UnendedIoError(errno.ETIMEDOUT, f"3FS {'read' if for_read else 'write'} {why}")

    def _offset(self, slot: np.ndarray) -> int | None:
        """Where a slot stands in the registered pool; None when it is elsewhere."""
        if self._memory is None:
            return None
        offset = slot.__array_interface__["data"][0] - self._memory.__array_interface__["data"][0]
        return offset if 0 <= offset <= len(self._memory) - len(slot) else None

    def _ring(self, for_read: bool) -> Any:
        kind = "read" if for_read else "write"
        ring = getattr(self._rings, kind, None)
        if ring is None:
            ring = self._binding.make_ioring(self._mount, _ENTRIES, for_read, 0)
            setattr(self._rings, kind, ring)
        return ring

    @staticmethod
    def _through_mount(fd: int, slot: np.ndarray, for_read: bool) -> int:
        kernel = KernelIo(direct=False)
        if for_read:
            return kernel.read(fd, slot)
        kernel.write(fd, slot)
        return len(slot)

    def close(self) -> None:
        """The binding takes its registration back, but not while the daemon may be at the pool."""
        if not self._unended:
            self._iov = self._memory = None
