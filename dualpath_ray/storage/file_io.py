"""How the bytes of a block file get into a slot and out of it: the port of ``LocalBlockStore``, and the kernel's own way."""

import errno
import os
from collections.abc import Sized
from typing import Protocol

import numpy as np

from dualpath_ray.base.units import PAGE_BYTES

IO_LIMIT_S = 300.0  # of one block: longer than disks and 3FS try again by themselves, so who takes it is broken
MOST_UNENDED = 16  # operations of a store; each keeps memory and a file, and so would every further one


class UnendedIoError(OSError):
    """Bytes may still move: what was registered for them, the slot and the file's number stay in use for good."""


def refuse_if_stuck(unended: Sized) -> None:
    """Before each operation. Args: unended: operations that did not end. Raises: OSError once they are too many."""
    if len(unended) >= MOST_UNENDED:
        raise OSError(
            errno.EIO, f"{len(unended)} operations of this store have not ended; see to the store, then start again"
        )


class FileIo(Protocol):
    """Moves whole files. Calls block, and come from many threads at once.

    A call that gives up on bytes that may still move raises UnendedIoError and keeps the slot's memory mapped.
    """

    name: str
    direct: bool  # whether files are opened past the page cache, where the file system can

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Slots will lie in ``memory``, which maps the file ``path``: what must be registered is registered once, here."""
        ...

    def read(self, fd: int, slot: np.ndarray) -> int:
        """Fill ``slot`` from the start of a file.

        Returns: bytes read, fewer than the slot's when the file ends before.
        Raises: OSError.
        """
        ...

    def write(self, fd: int, slot: np.ndarray) -> None:
        """Write ``slot`` to the start of a file. Raises: OSError."""
        ...

    def close(self) -> None: ...


class KernelIo:
    """preadv and pwritev: with direct I/O the device writes into the slot itself, and no byte is copied."""

    name = "kernel"

    def __init__(self, direct: bool = True) -> None:
        self.direct = direct

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Nothing: the kernel takes any memory."""

    def read(self, fd: int, slot: np.ndarray) -> int:
        done = 0
        while done < len(slot):
            count = os.preadv(fd, [slot.data[done:]], done)
            done += count
            # Direct I/O cannot go on from inside a page, and need not: the file ended there.
            if count == 0 or done % PAGE_BYTES:
                break
        return done

    def write(self, fd: int, slot: np.ndarray) -> None:
        done = 0
        while done < len(slot):
            done += os.pwritev(fd, [slot.data[done:]], done)

    def close(self) -> None:
        """Nothing stays open."""
