"""Copies of scattered blocks between the pool's slots in DRAM and an engine's KV in HBM (section 5.2; appendix A.5)."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class BlockList:
    """Equal ranges: ``host[i]`` and ``device[i]`` are addresses, uint64 [num_blocks]; ``nbytes`` of each range.

    ``prepared`` is what the way that made it needs besides, such as a copy of the addresses on the device.
    """

    host: np.ndarray
    device: np.ndarray
    nbytes: int
    prepared: Any = None

    @property
    def total_bytes(self) -> int:
        return len(self.host) * self.nbytes


class BlockCopy(Protocol):
    """A way to copy. A list is prepared once and copied from many times, at an offset: layer after layer.

    Calls only issue the copies, on the stream that is current (not the default one); whoever needs the bytes waits for it.
    """

    name: str

    def prepare(self, host: np.ndarray, device: np.ndarray, nbytes: int) -> BlockList:
        """Args: see BlockList."""
        ...

    def to_device(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        """Host ranges, each moved by ``host_offset`` bytes, to device ranges, each moved by ``device_offset``."""
        ...

    def to_host(self, blocks: BlockList, host_offset: int = 0, device_offset: int = 0) -> None:
        """The other way."""
        ...

    def check(self) -> None:
        """Whether what was issued and is over by now has moved the right bytes. The driver's own copies fail by themselves.

        Raises: TransportError.
        """
        return None

    def end(self) -> None:
        """Nothing is issued any more."""
        return None
