"""What 3FS's Python binding does, as its documentation says, on a directory that stands for the mount.

Strict where a real one may fail in silence: a ring belongs to one thread and one direction, a file must be registered, an
operation must lie in registered shared memory.
"""

import os
import sys
import threading
import types
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest


@dataclass
class Done:
    result: int


class FakeIovec:
    def __init__(self, shared, mount, block_size, numa):
        assert Path("/dev/shm", shared.name).stat().st_size == len(shared.buf), "the daemon maps it by its name"
        assert (block_size, numa) == (0, -1)
        self._bytes = shared.buf

    def __getitem__(self, where):
        return self._bytes[where]


class FakeRing:
    def __init__(self, fake, entries, for_read):
        self._fake, self._entries, self._for_read = fake, entries, for_read
        self._thread = threading.get_ident()
        self._prepared = []
        self._submitted = []

    def prepare(self, part, for_read, fd, offset):
        assert threading.get_ident() == self._thread, "a ring is no thing of several threads"
        assert for_read == self._for_read and len(self._prepared) < self._entries
        self._prepared.append((part, fd, offset))

    def submit(self):
        self._submitted += self._prepared
        self._prepared = []
        return self

    def wait(self, min_results, timeout):
        assert len(self._submitted) >= min_results and isinstance(timeout, timedelta)
        if self._fake.stuck:
            self._fake.late.append(self)
            return []
        return self.run()

    def run(self):
        done = [Done(self._run(*operation)) for operation in self._submitted]
        self._submitted = []
        return done

    def _run(self, part, fd, offset):
        if fd not in self._fake.registered:
            return -9  # EBADF
        self._fake.num_operations += 1
        with self._fake.lock:
            try:
                return os.preadv(fd, [part], offset) if self._for_read else os.pwritev(fd, [part], offset)
            except OSError as error:
                return -error.errno


class Fake3fs:
    """The module ``hf3fs_fuse.io``, and what it has done."""

    def __init__(self, mount: Path) -> None:
        self.mount = str(mount)
        self.registered: set[int] = set()
        self.num_operations = 0
        self.lock = threading.Lock()
        self.stuck = False  # nothing ends in time
        self.late: list[FakeRing] = []  # with what did not

    def end_late(self) -> None:
        """What was given up is carried out after all."""
        for ring in self.late:
            assert all(done.result > 0 for done in ring.run())

    def extract_mount_point(self, path):
        return self.mount if path.startswith(self.mount) else None

    def register_fd(self, fd):
        assert fd not in self.registered
        self.registered.add(fd)

    def deregister_fd(self, fd):
        self.registered.remove(fd)

    def make_iovec(self, shared, mount, block_size=0, numa=-1):
        assert mount == self.mount
        return FakeIovec(shared, mount, block_size, numa)

    def make_ioring(self, mount, entries, for_read=True, io_depth=0):
        assert mount == self.mount and io_depth == 0
        return FakeRing(self, entries, for_read)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make it what ``from hf3fs_fuse import io`` finds."""
        package = types.ModuleType("hf3fs_fuse")
        package.__dict__["io"] = self
        monkeypatch.setitem(sys.modules, "hf3fs_fuse", package)
