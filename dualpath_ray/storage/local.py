"""One file per sealed block in a directory: a local SSD, or a file system that every node mounts.

Direct I/O by default: the bytes go between the device and the pool slot without a stop in the page cache, which would
cost a copy and a memory that the paper's clients do not have (section 7: no DRAM cache).
"""

import errno
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from dualpath_ray.base.errors import (
    BlockNotFoundError,
    CorruptBlockError,
    LayoutError,
    StorageError,
    StoreFullError,
    UnendedReadError,
)
from dualpath_ray.base.units import PAGE_BYTES
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, read_header
from dualpath_ray.storage.file_io import FileIo, KernelIo, UnendedIoError
from dualpath_ray.storage.port import check_slot

_BLOCK_SUFFIX = ".kv"
_PARTIAL_SUFFIX = ".tmp"
_IDENTITY = ".dualpath-store"


@contextmanager
def _open_until_over(fd: int) -> Iterator[None]:
    """Close a file after its bytes have moved. Where they may still move it stays open: its number must name no other."""
    over = True
    try:
        yield
    except UnendedIoError:
        over = False
        raise
    finally:
        if over:
            os.close(fd)


class LocalBlockStore:
    """A BlockStore of files ``root/<first 2 hex digits>/<key in hex>.kv``; a file's mtime is the block's last use."""

    def __init__(self, root: str | Path, layout: KvLayout, *, io: FileIo | None = None, durable: bool = True) -> None:
        """Args: io: how bytes are moved; durable: a block is on the device before it can be read, whatever happens."""
        self.name = str(root)
        self._root = Path(root)
        self._layout = layout
        self._io = io or KernelIo()
        self._direct = self._io.direct
        self._durable = durable
        self._lock = threading.Lock()

    def attach(self, memory: np.ndarray, path: str) -> None:
        """See BlockStore.attach."""
        self._io.attach(memory, path)

    def read(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.read."""
        self._check_slot(slot)
        try:
            fd = self._open(self._path(key), os.O_RDONLY)
        except FileNotFoundError as error:
            raise BlockNotFoundError(key.hex()[:16], self.name) from error
        except OSError as error:
            raise StorageError(f"cannot open block {key.hex()[:16]} in {self.name}: {error.strerror}") from error
        try:
            with _open_until_over(fd):
                done = self._io.read(fd, slot)
                with suppress(OSError):  # a reader without write permission serves blocks all the same
                    os.utime(fd)
        except OSError as error:
            kind = UnendedReadError if isinstance(error, UnendedIoError) else StorageError
            raise kind(f"cannot read block {key.hex()[:16]} in {self.name}: {error.strerror}") from error
        if done < len(slot):
            raise CorruptBlockError(key.hex()[:16], f"short read in {self.name}: {done} of {len(slot)} bytes")

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.write. Its bytes are on the device before its name is, and its name before this returns.

        A write that did not end in time is a plain error: nothing writes to its slot, and its file never gets a name.
        """
        self._check_slot(slot)
        path = self._path(key)
        partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
        try:
            self._write_file(partial, path, slot)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(partial)
            if not isinstance(error, OSError):
                raise
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(
                    f"storage.path: no space left in {self.name} for a block of {len(slot)} bytes; free some, or set "
                    "storage.capacity_bytes below what the disk holds"
                ) from error
            raise StorageError(f"cannot write block {key.hex()[:16]} in {self.name}: {error.strerror}") from error

    def _write_file(self, partial: Path, path: Path, slot: np.ndarray) -> None:
        with _open_until_over(fd := self._create(partial)):
            self._io.write(fd, slot)
            if self._durable:
                os.fdatasync(fd)
        os.rename(partial, path)
        if self._durable:
            self._sync_folder(path.parent)

    def delete(self, key: bytes) -> None:
        """See BlockStore.delete."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete block {key.hex()[:16]} in {self.name}: {error.strerror}") from error

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        """See BlockStore.scan. Makes the directory when it is missing.

        Intact blocks of another layout stay where they are: they are another model's, and their keys match no
        request of this one.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._leave_identity()
            folders = [entry.path for entry in os.scandir(self._root) if len(entry.name) == 2 and entry.is_dir()]
            for folder in folders:
                for path in map(Path, sorted(entry.path for entry in os.scandir(folder))):
                    found = self._inspect(path)
                    if found is not None:
                        yield found
        except OSError as error:
            raise StorageError(f"cannot scan {self.name}: {error.strerror}") from error

    def check(self) -> None:
        """See BlockStore.check."""
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise StorageError(
                f"this process cannot read the block store {self.name}: {error.strerror}; every node must see the same "
                "directory under the same path"
            ) from error

    def identity(self) -> str:
        """See BlockStore.identity: what stands in a file that the first owner left in the root."""
        try:
            return (self._root / _IDENTITY).read_text()
        except FileNotFoundError:
            self.check()
            return ""
        except OSError as error:
            raise StorageError(f"this process cannot read the block store {self.name}: {error.strerror}") from error

    def _leave_identity(self) -> None:
        """Whole or not at all: an empty one would look like the store of whoever has none."""
        target = self._root / _IDENTITY
        if target.is_file() and target.stat().st_size:
            return
        partial = target.with_name(f"{_IDENTITY}.{uuid.uuid4().hex}")
        with open(partial, "w") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        self._sync_folder(self._root)

    def close(self) -> None:
        """See BlockStore.close."""
        self._io.close()

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._root / name[:2] / f"{name}{_BLOCK_SUFFIX}"

    def _check_slot(self, slot: np.ndarray) -> None:
        check_slot(slot, self._layout)
        if self._direct and slot.__array_interface__["data"][0] % PAGE_BYTES:
            raise LayoutError("direct I/O needs a slot that starts on a page")

    def _open(self, path: Path, flags: int) -> int:
        if self._direct:
            try:
                return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                with suppress(OSError):  # some file systems make the file before they refuse the flag
                    if flags & os.O_CREAT:
                        os.unlink(path)
                self._direct = False  # this file system has no direct I/O: go through its cache from now on
        return os.open(path, flags | os.O_CLOEXEC, 0o644)

    @staticmethod
    def _sync_folder(folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return self._open(path, flags)
        except FileNotFoundError:
            with self._lock:  # nobody writes into a new folder before its name is durable
                path.parent.mkdir(parents=True, exist_ok=True)
                if self._durable:
                    self._sync_folder(self._root)
            return self._open(path, flags)

    def _inspect(self, path: Path) -> tuple[SealedHeader, float] | None:
        """Header and last use of a block file; removes what is no whole block and returns None."""
        if path.suffix == _PARTIAL_SUFFIX:
            path.unlink(missing_ok=True)
            return None
        if path.suffix != _BLOCK_SUFFIX:
            return None
        try:
            with open(path, "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                header = read_header(file.read(self._layout.header_bytes), path.stem[:16])
            if header.key.hex() != path.stem:
                raise CorruptBlockError(path.stem[:16], "it is another block")
            if status.st_size != header.layout.sealed_bytes:
                raise CorruptBlockError(path.stem[:16], "half written")
        except FileNotFoundError:
            return None
        except CorruptBlockError:
            path.unlink(missing_ok=True)
            return None
        return (header, status.st_mtime) if header.layout == self._layout else None
