"""Blocks as objects of an S3-compatible service, through pyarrow's file systems: an object for each sealed block."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dualpath_ray.base.errors import BlockNotFoundError, ConfigError, CorruptBlockError, StorageError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, read_header
from dualpath_ray.storage.port import check_slot

_SUFFIX = ".kv"
_IDENTITY = "dualpath-store"
_SCAN_THREADS = 16


class ObjectBlockStore:
    """A BlockStore of objects ``<prefix>/<first 2 hex digits>/<key in hex>.kv``.

    An upload is visible when it is complete, and durable as the service says. An object's age is that of its last
    write, since reading leaves no trace: after a restart of the storage node, that is what counts as its last use.
    """

    def __init__(self, root: str, layout: KvLayout) -> None:
        """Args:   root: ``s3://bucket/prefix``; ``?endpoint_override=host:port&scheme=http`` for another service than AWS.

        Credentials come from where AWS's tools look: environment, profile, role of the machine.
        Raises: ConfigError naming ``storage.path`` when it is no such address.
        """
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem

        try:
            self._fs, self._prefix = FileSystem.from_uri(root)
        except (ArrowException, ValueError, OSError) as error:
            raise ConfigError(
                f"storage.path: {root} is no address of an object store ({error}); write s3://bucket/prefix"
            ) from error
        self.name = root.partition("?")[0]
        self._endpoint = _endpoint(self._fs)
        self._layout = layout

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Any memory will do."""

    def read(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.read."""
        check_slot(slot, self._layout)
        try:
            with self._fs.open_input_file(self._path(key)) as file:
                done = 0
                while done < len(slot) and (count := file.readinto(slot[done:])):
                    done += count
        except FileNotFoundError as error:
            raise BlockNotFoundError(key.hex()[:16], self.name) from error
        except OSError as error:
            raise StorageError(f"cannot read block {key.hex()[:16]} in {self.name}: {_first_line(error)}") from error
        if done < len(slot):
            raise CorruptBlockError(key.hex()[:16], f"short read in {self.name}: {done} of {len(slot)} bytes")

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """See BlockStore.write."""
        check_slot(slot, self._layout)
        try:
            with self._fs.open_output_stream(self._path(key)) as stream:
                stream.write(slot)
        except OSError as error:
            raise StorageError(f"cannot write block {key.hex()[:16]} in {self.name}: {_first_line(error)}") from error

    def delete(self, key: bytes) -> None:
        """See BlockStore.delete."""
        try:
            self._fs.delete_file(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot delete block {key.hex()[:16]} in {self.name}: {_first_line(error)}") from error

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        """See BlockStore.scan. Makes the bucket when it is missing and that is allowed."""
        from pyarrow.fs import FileSelector

        try:
            self._fs.create_dir(self._prefix, recursive=True)
            listed = self._fs.get_file_info(FileSelector(self._prefix, recursive=True, allow_not_found=True))
            self._leave_identity(listed)
        except OSError as error:
            raise StorageError(f"cannot scan {self.name}: {_first_line(error)}") from error
        blocks = [info for info in listed if info.is_file and info.path.endswith(_SUFFIX)]
        with ThreadPoolExecutor(_SCAN_THREADS, "scan") as pool:
            try:
                inspected = list(pool.map(self._inspect, blocks))
            except OSError as error:
                raise StorageError(f"cannot scan {self.name}: {_first_line(error)}") from error
        yield from (found for found in inspected if found is not None)

    def check(self) -> None:
        """See BlockStore.check."""
        from pyarrow.fs import FileType

        try:
            here = self._fs.get_file_info(self._prefix).type is not FileType.NotFound
        except OSError as error:
            raise StorageError(f"this process cannot read the block store {self.name}: {_first_line(error)}") from error
        if not here:
            raise StorageError(
                f"this process cannot read the block store {self.name}: there is no such bucket or prefix"
            )

    def identity(self) -> str:
        """See BlockStore.identity: an object that the first owner left, and the service that it is read from.

        Either alone is not enough: a node's own environment may name another service for the same address, and a bucket
        that is copied takes the object along. One service under two names counts as two: slower to read, never wrong.
        """
        try:
            with self._fs.open_input_file(f"{self._prefix}/{_IDENTITY}") as file:
                return f"{bytes(file.read()).decode(errors='replace')} at {self._endpoint}"
        except FileNotFoundError:
            self.check()
            return ""
        except OSError as error:
            raise StorageError(f"this process cannot read the block store {self.name}: {_first_line(error)}") from error

    def _leave_identity(self, listed: Sequence[Any]) -> None:
        if not any(info.base_name == _IDENTITY for info in listed):
            with self._fs.open_output_stream(f"{self._prefix}/{_IDENTITY}") as stream:
                stream.write(uuid.uuid4().hex.encode())

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _path(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._prefix}/{name[:2]}/{name}{_SUFFIX}"

    def _inspect(self, info: Any) -> tuple[SealedHeader, float] | None:
        """Header and last use of an object; removes what is no whole block and returns None."""
        name = info.base_name.removesuffix(_SUFFIX)
        try:
            with self._fs.open_input_file(info.path) as file:
                header = read_header(file.read_at(min(self._layout.header_bytes, info.size), 0), name[:16])
            if header.key.hex() != name or info.size != header.layout.sealed_bytes:
                raise CorruptBlockError(name[:16], "another block, or not whole")
        except FileNotFoundError:
            return None
        except CorruptBlockError:
            self._fs.delete_file(info.path)
            return None
        return (header, info.mtime_ns / 1e9) if header.layout == self._layout else None


def _endpoint(fs: Any) -> str:
    """``host:port`` of the service that is used in place of AWS, named in the address or the environment; else empty.

    pyarrow tells it only in what it pickles of a file system.
    """
    _, (options, *_) = fs.__reduce__()
    return str(options.get("endpoint_override") or "").rpartition("://")[2].rstrip("/")


def _first_line(error: OSError) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
