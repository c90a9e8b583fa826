"""The shared-memory segment of a node: its PE or DE buffer.

Created by the node's traffic manager, mapped by the engines of that node only. Layout: one header page, the slot table,
a staging zone (the layers in flight between NIC and engine), then page-aligned Full Block slots. Space is allocated,
not hoped for: a too small /dev/shm is an error at creation instead of a SIGBUS later.
"""

import errno
import mmap
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dualpath_ray.base.errors import ConfigError, LayoutError
from dualpath_ray.base.units import PAGE_BYTES, align_up, format_bytes
from dualpath_ray.kv.layout import KvLayout

SHM_DIR = Path("/dev/shm")
PREFIX = "dualpath"
_MAGIC = b"DPSEGMT2"
_HEADER = struct.Struct(
    "<8sIIIIqqq"
)  # magic, layers, tokens, bytes, num_slots, staging_bytes, creator's pid, namespace

FREE, FILLING, READY, WRITING, LOST = range(5)  # lost: a device may write to it for as long as its process lives
SLOT_RECORD = np.dtype([("state", "<u4"), ("attempt", "<u4"), ("owner", "S40")])
"""One lease: what the slot is used for, by which request and which attempt. A restarted traffic manager reads these."""


def segment_path(system: str, node: str) -> Path:
    return SHM_DIR / f"{PREFIX}.{system}.{node}"


def sweep(system: str) -> list[Path]:
    """Remove the segments of a system whose processes are gone; returns what was removed."""
    removed = list(SHM_DIR.glob(f"{PREFIX}.{system}.*"))
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # the oracle's store
        else:
            path.unlink(missing_ok=True)
    return removed


def pid_namespace() -> int:
    """Identity of the namespace that this process's id is counted in."""
    return os.stat("/proc/self/ns/pid").st_ino


def segment_creator(path: Path) -> tuple[int, int] | None:
    """(process id namespace, process id) of who created a segment; None when the file is no segment."""
    try:
        with path.open("rb") as file:
            raw = file.read(_HEADER.size)
    except OSError:
        return None
    if len(raw) != _HEADER.size or not raw.startswith(_MAGIC):
        return None
    *_, pid, namespace = _HEADER.unpack(raw)
    return namespace, pid


def segment_bytes(layout: KvLayout, num_slots: int, staging_bytes: int) -> int:
    """Size of the whole segment."""
    return _data_offset(num_slots) + align_up(staging_bytes, PAGE_BYTES) + num_slots * layout.slot_bytes


def _data_offset(num_slots: int) -> int:
    return PAGE_BYTES + align_up(num_slots * SLOT_RECORD.itemsize, PAGE_BYTES)


class Segment:
    """A mapped segment. ``slots`` is uint8 [num_slots, slot_bytes], ``staging`` uint8 [staging_bytes]."""

    def __init__(self, path: Path, fd: int) -> None:
        """Takes ``fd`` over, whatever comes of it. Raises: LayoutError when it is no whole segment of this version."""
        self.path, self.fd = path, fd
        try:
            self._map(path, fd)
        except BaseException:
            os.close(fd)
            raise

    def _map(self, path: Path, fd: int) -> None:
        raw = os.pread(fd, _HEADER.size, 0)
        if len(raw) < _HEADER.size or not raw.startswith(_MAGIC):
            raise LayoutError(f"{path} is no segment of this version")
        _, layers, tokens, per_token, num_slots, staging_bytes, *_ = _HEADER.unpack(raw)
        self.layout = KvLayout(layers, tokens, per_token)
        self.num_slots, self.staging_bytes = num_slots, staging_bytes
        size, here = segment_bytes(self.layout, num_slots, staging_bytes), os.fstat(fd).st_size
        if here != size:
            raise LayoutError(
                f"{path} says that it is {size} bytes, but is {here}: another build made it, or it was cut"
            )
        self.mapping = mmap.mmap(fd, size)
        whole = np.frombuffer(self.mapping, np.uint8)
        self.table = whole[PAGE_BYTES : PAGE_BYTES + num_slots * SLOT_RECORD.itemsize].view(SLOT_RECORD)
        self.staging_offset = _data_offset(num_slots)
        self.staging = whole[self.staging_offset : self.staging_offset + staging_bytes]
        self.slots_offset = self.staging_offset + align_up(staging_bytes, PAGE_BYTES)
        self.slots = whole[self.slots_offset :].reshape(num_slots, self.layout.slot_bytes)
        self.bytes = whole

    @classmethod
    def create(cls, path: Path, layout: KvLayout, num_slots: int, staging_bytes: int, key: str) -> "Segment":
        """Allocate and map a new segment.

        Args:   key: the configuration key that sized it, for the error.
        Raises: ConfigError when /dev/shm cannot hold it.
        """
        size = segment_bytes(layout, num_slots, staging_bytes)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        header = _HEADER.pack(_MAGIC, *layout.shape, num_slots, staging_bytes, os.getpid(), pid_namespace())
        try:
            os.pwrite(fd, header, 0)  # first: whose it is must stand there while it is allocated, which takes its time
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            if error.errno != errno.ENOSPC:
                raise
            free = os.statvfs(SHM_DIR)
            raise ConfigError(
                f"{key}: {SHM_DIR} has {format_bytes(free.f_bavail * free.f_frsize)} free, but this node's buffer needs "
                f"{format_bytes(size)}; make {key} smaller or mount a larger {SHM_DIR}"
            ) from error
        return cls(path, fd)

    @classmethod
    def attach(cls, path: Path) -> "Segment":
        """Map a segment that the node's traffic manager created."""
        return cls(path, os.open(path, os.O_RDWR))

    def slot_offset(self, slot: int) -> int:
        """Offset of a slot from the start of the segment."""
        return self.slots_offset + slot * self.layout.slot_bytes

    def full_block(self, slot: int) -> np.ndarray:
        """View uint8 [num_layers, block_tokens, bytes_per_token_layer] of the Full Block in a slot."""
        start = self.layout.header_bytes
        return self.slots[slot, start : start + self.layout.full_block_bytes].reshape(self.layout.shape)

    def unlink(self) -> None:
        """Remove the name; the memory goes when the last process that maps it ends."""
        self.path.unlink(missing_ok=True)


class BufferPool:
    """Leases over the slots of a segment. Only the traffic manager that created the segment calls it."""

    def __init__(self, segment: Segment) -> None:
        self._table = segment.table
        self._free = [int(i) for i in np.flatnonzero(segment.table["state"] == FREE)[::-1]]
        self.num_lost = int(np.count_nonzero(segment.table["state"] == LOST))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_slots(self) -> int:
        return len(self._table)

    @property
    def num_usable(self) -> int:
        """Slots that are not lost."""
        return self.num_slots - self.num_lost

    def lease(self, count: int, owner: str, attempt: int) -> list[int] | None:
        """``count`` slots for a request's attempt, or None when there are not that many free now."""
        if count > len(self._free):
            return None
        slots = [self._free.pop() for _ in range(count)]
        self._table[slots] = (FILLING, attempt, owner.encode()[:40])
        return slots

    def mark(self, slots: Iterable[int], state: int) -> None:
        self._table["state"][list(slots)] = state

    def release(self, slots: Iterable[int]) -> None:
        """Give slots back: the caller has proof that nothing writes to them any more."""
        freed = list(slots)
        self._table[freed] = (FREE, 0, b"")
        self._free.extend(freed)

    def lose(self, slots: Iterable[int]) -> None:
        """Never give these slots out again: there is no proof that nothing writes to them any more. Their lease stays."""
        lost = list(slots)
        self.mark(lost, LOST)
        self.num_lost += len(lost)

    def leases(self) -> list[tuple[int, str, int]]:
        """(slot, owner, attempt) of every live lease."""
        live = np.flatnonzero(self._table["state"] != FREE)
        owners = self._table["owner"]  # cut at a byte, not at a character
        return [(int(i), owners[i].decode(errors="ignore"), int(self._table["attempt"][i])) for i in live]
