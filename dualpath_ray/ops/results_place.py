"""Where a rollout's results are to be in the end: a directory, or a place in an object store."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.storage.root import child, is_address


class ResultsPlace:
    """Files by name below ``out``; each appears whole or not at all. Everything raises ConfigError naming ``--out``."""

    def __init__(self, out: str) -> None:
        """Args: out: a directory, or ``s3://bucket/prefix`` (credentials from where AWS's tools look for them)."""
        self.remote = is_address(out)
        if self.remote and "@" in out.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "--out: the address holds credentials, which would be shown; leave them to AWS's environment"
            )
        self.shown = out.partition("?")[0] if self.remote else str(Path(out).expanduser().resolve())
        # Reports are drawn and tables written on a file system of this machine, and then uploaded.
        self.folder = Path(tempfile.mkdtemp(prefix="dualpath-results-") if self.remote else self.shown)
        self._out = out
        with self._naming():
            self._fs, self._root = self._open(out)

    @staticmethod
    def _open(out: str) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem, LocalFileSystem

        if not is_address(out):
            return LocalFileSystem(), str(Path(out).expanduser().resolve())
        found: tuple[Any, str] = FileSystem.from_uri(out)
        return found

    def make(self) -> None:
        """Make sure that results can be written there."""
        if not self.remote:
            make_out(self.folder)
        else:
            self.save(".probe", "")
            self.remove(".probe")

    def save(self, name: str, text: str) -> None:
        """Write a file."""
        path = self._path(name)
        with self._naming():
            if self.remote:
                self._write(path, text)
                return
            self._fs.create_dir(str(PurePosixPath(path).parent))
            aside = str(PurePosixPath(path).with_name(f".{uuid.uuid4().hex[:8]}"))
            self._write(aside, text)
            self._fs.move(aside, path)

    def _write(self, path: str, text: str) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(text.encode())

    def load(self, prefix: str) -> dict[str, str]:
        """The files below a folder, by name, in order of their names."""
        from pyarrow.fs import FileSelector, FileType

        with self._naming():
            found = self._fs.get_file_info(FileSelector(self._path(prefix), allow_not_found=True, recursive=True))
            files = (info.path for info in found if info.type == FileType.File)
            paths = sorted(path for path in files if not PurePosixPath(path).name.startswith("."))  # half-written
            return {path.removeprefix(f"{self._root}/"): self._read(path) for path in paths}

    def _read(self, path: str) -> str:
        with self._fs.open_input_stream(path) as stream:
            return str(stream.read().decode())

    def remove(self, name: str) -> None:
        """Remove a file or a folder, if it is there."""
        from pyarrow.fs import FileType

        with self._naming():
            kind = self._fs.get_file_info(self._path(name)).type
            if kind == FileType.Directory:
                self._fs.delete_dir(self._path(name))
            elif kind == FileType.File:
                self._fs.delete_file(self._path(name))

    def publish(self) -> None:
        """Bring what stands in ``folder`` to where it is to be."""
        from pyarrow.fs import LocalFileSystem, copy_files

        if self.remote:
            with self._naming():
                copy_files(str(self.folder), self._root, LocalFileSystem(), self._fs)

    def close(self) -> None:
        """Forget what was only on this machine."""
        if self.remote:
            shutil.rmtree(self.folder, ignore_errors=True)

    def where(self, name: str) -> str:
        """A file's place, for people."""
        return child(self.shown, name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _naming(self) -> Iterator[None]:
        from pyarrow import ArrowException

        try:
            yield
        except (ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                f"--out: {self.shown} cannot be used ({reason}); name another place, or free some space"
            ) from error
