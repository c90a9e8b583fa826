"""Memory and disk of this host: room in /dev/shm, direct I/O and io_uring."""

import ctypes
import errno
import mmap
import os
import tempfile
from pathlib import Path

from dualpath_ray.base.units import PAGE_BYTES, format_bytes
from dualpath_ray.kv.segment import SHM_DIR
from dualpath_ray.ops.doctor.check import Check, Level

_LITTLE_BYTES = 2**30  # a container's default is 64 MiB
_LARGER = "mount a larger one (docker run --shm-size), or make the buffers smaller"
_IO_URING_SETUP = 425  # the number of the system call on every architecture that has it


def shared_memory_check() -> Check:
    """Without a configuration nobody knows what is needed."""
    total, free = _shared_memory_bytes()
    says = f"{format_bytes(free)} free of {format_bytes(total)}"
    if total < _LITTLE_BYTES:
        return Check(str(SHM_DIR), f"{says}: little for KV buffers", Level.WARNING, _LARGER)
    return Check(str(SHM_DIR), says)


def shared_memory_check_of(largest_node_bytes: int, all_nodes_bytes: int) -> Check:
    """Whether a node's buffers fit here, and whether those of all nodes do."""
    return judge_shared_memory(_shared_memory_bytes()[1], largest_node_bytes, all_nodes_bytes)


def judge_shared_memory(free_bytes: int, largest_node_bytes: int, all_nodes_bytes: int) -> Check:
    """Pure."""
    says = f"{format_bytes(free_bytes)} free"
    largest, together = format_bytes(largest_node_bytes), format_bytes(all_nodes_bytes)
    if largest_node_bytes > free_bytes:
        return Check(str(SHM_DIR), f"{says}, but the buffers of one node take {largest}", Level.ERROR, _LARGER)
    if all_nodes_bytes > free_bytes:
        says += f": enough for one node ({largest}), not for all of them on this machine ({together})"
        return Check(str(SHM_DIR), says, Level.WARNING, f"use more machines, or {_LARGER}")
    return Check(str(SHM_DIR), f"{says}: enough for all nodes ({together})")


def _shared_memory_bytes() -> tuple[int, int]:
    """(all, free)."""
    found = os.statvfs(SHM_DIR)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def store_check(root: Path) -> Check:
    """Whether the store's folder, or the one that it would be made in, can be written, and past the page cache."""
    folder = next(path for path in (root, *root.parents) if path.exists())
    name = "store"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".dualpath-doctor-") as file:
            direct = _writes_directly(file.name)
    except OSError as error:
        return Check(name, f"{folder} cannot be written: {error.strerror}", Level.ERROR, "name another storage.path")
    if direct is not None:
        return Check(
            name,
            f"{folder} has no direct I/O ({direct}): reads pass through the page cache",
            Level.WARNING,
            "put the store on a local disk or a parallel file system to measure its own speed",
        )
    return Check(name, f"{folder} can be written, with direct I/O")


def _writes_directly(path: str) -> str | None:
    """None when it works, else why not."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        return error.strerror
    try:
        os.pwrite(fd, mmap.mmap(-1, PAGE_BYTES), 0)
    except OSError as error:
        return error.strerror
    finally:
        os.close(fd)
    return None


def io_uring_check() -> Check:
    """The kernel looks at the address of the parameters only where the call is allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_IO_URING_SETUP, 1, None)
    number = ctypes.get_errno()
    if number == errno.EFAULT:
        return Check("io_uring", "available (storage.store: nixl_posix can use it)")
    return Check("io_uring", f"not available ({os.strerror(number)}); only storage.store: nixl_posix can use it")
