"""Block files through a NIXL file plugin: POSIX (io_uring, libaio), GDS, or HF3FS where these exist."""

import errno
import os
import uuid
from contextlib import suppress
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nixl_agent import (
    NixlMissingError,
    NixlReportedError,
    NixlUnendedError,
    make_agent,
    run_transfer,
)
from dualpath_ray.storage.file_io import IO_LIMIT_S, UnendedIoError, refuse_if_stuck

_OPTIONS = {"POSIX": {"use_uring": "true"}}
_MOST_AT_ONCE = {"GDS": 16 << 20}  # bytes; it cuts what is longer, and where one part has failed the others may move


class NixlIo:
    """FileIo over one plugin. The agent is told to lock itself, so threads share it."""

    direct = True

    def __init__(self, plugin: str, limit_s: float = IO_LIMIT_S) -> None:
        """Args: limit_s: of one block. Raises: ConfigError naming ``storage.store`` when NIXL or the plugin is missing."""
        self._limit_s = limit_s
        self.name = f"nixl_{plugin.lower()}"
        self._plugin = plugin
        try:
            self._agent: Any = make_agent(f"store-{uuid.uuid4().hex}", plugin, _OPTIONS.get(plugin))
        except NixlMissingError as error:
            raise ConfigError(f"storage.store: {self.name} cannot be used: {error}") from error
        self._memory: np.ndarray | None = None
        self._unended: list[np.ndarray] = []  # slots that the plugin may be at yet

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Register the pool, once."""
        self._memory = memory
        self._agent.register_memory([(_address(memory), len(memory), 0, "")], "DRAM", backends=[self._plugin])

    def read(self, fd: int, slot: np.ndarray) -> int:
        size = os.fstat(fd).st_size
        if size < len(slot):
            return size  # the caller calls it a short read: no plugin says how far it came
        self._move("READ", fd, slot)
        return len(slot)

    def write(self, fd: int, slot: np.ndarray) -> None:
        self._move("WRITE", fd, slot)

    def _move(self, operation: str, fd: int, slot: np.ndarray) -> None:
        refuse_if_stuck(self._unended)
        agent, backends, size = self._agent, [self._plugin], len(slot)
        registered = []
        try:
            registered.append(agent.register_memory([(0, size, fd, "")], "FILE", backends=backends))
            if not self._holds(slot):
                registered.append(agent.register_memory([(_address(slot), size, 0, "")], "DRAM", backends=backends))
            memory = agent.get_xfer_descs([(_address(slot), size, 0)], "DRAM")
            file = agent.get_xfer_descs([(0, size, fd)], "FILE")
            handle = agent.initialize_xfer(operation, memory, file, agent.name, backends=backends)
            run_transfer(agent, handle, self._limit_s)
        except NixlUnendedError as error:
            if isinstance(error, NixlReportedError) and size <= _MOST_AT_ONCE.get(self._plugin, size):
                raise OSError(errno.EIO, f"NIXL {self._plugin} could not {operation.lower()}: {error}") from error
            registered.clear()
            self._unended.append(slot)
            raise UnendedIoError(errno.EIO, f"NIXL {self._plugin} {operation.lower()}: {error}") from error
        except Exception as error:  # its bindings raise classes of their own, without a common one
            raise OSError(errno.EIO, f"NIXL {self._plugin}: {type(error).__name__}: {error}") from error
        finally:
            for descriptors in registered:
                with suppress(Exception):
                    agent.deregister_memory(descriptors, backends=backends)

    def _holds(self, slot: np.ndarray) -> bool:
        if self._memory is None:
            return False
        return 0 <= _address(slot) - _address(self._memory) <= len(self._memory) - len(slot)

    def close(self) -> None:
        """The agent gives back what it registered when it goes; it stays while it may be at a slot."""
        if not self._unended:
            self._memory = self._agent = None


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
