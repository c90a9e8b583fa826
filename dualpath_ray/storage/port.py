"""The port to shared storage: whole sealed Full Blocks by key (section 4.1, appendix A.5)."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, verify


class BlockStore(Protocol):
    """Reads and writes sealed blocks; one object may be used from many threads and many processes at once.

    A slot is uint8 [layout.slot_bytes], contiguous and page aligned (direct I/O goes straight into it).
    """

    name: str

    def attach(self, memory: np.ndarray, path: str) -> None:
        """Slots of this process will lie in ``memory``, which maps the file ``path``; at most once, before any other call.

        An adapter that must register memory does it here. Slots that lie elsewhere work too, if more slowly.
        """
        ...

    def read(self, key: bytes, slot: np.ndarray) -> None:
        """Fill ``slot`` with the sealed block; its bytes are not verified here.

        Raises: BlockNotFoundError; CorruptBlockError when fewer bytes than a block are there; StorageError when the read
            fails; UnendedReadError when the device may write into ``slot`` yet: nobody may use it again.
        """
        ...

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """Store the sealed block in ``slot``; readers see it whole or not at all.

        Raises: StoreFullError when the device has no room; StorageError when the write fails.
        """
        ...

    def delete(self, key: bytes) -> None:
        """Remove a block; no error when there is none."""
        ...

    def scan(self) -> Iterator[tuple[SealedHeader, float]]:
        """Every whole block of this layout with its last use (seconds since the epoch).

        Blocks that are half written or whose header is not intact are removed on the way. Only the owner of a store
        (its storage node) scans it.
        """
        ...

    def check(self) -> None:
        """Raises: StorageError when this process cannot read the store; the message says what to do."""
        ...

    def identity(self) -> str:
        """What this process sees under the store's name: equal to what its owner sees, or it is not the owner's store.

        Raises: StorageError as ``check``.
        """
        ...

    def close(self) -> None:
        """Give up what the store holds open; no call may follow."""
        ...


def check_slot(slot: np.ndarray, layout: KvLayout) -> None:
    """Raises: LayoutError when ``slot`` cannot take one sealed block of ``layout``."""
    if slot.dtype != np.uint8 or slot.shape != (layout.slot_bytes,) or not slot.flags.c_contiguous:
        raise LayoutError(f"a slot is uint8 [{layout.slot_bytes}], contiguous, not {slot.dtype} {list(slot.shape)}")


def read_verified(store: BlockStore, key: bytes, slot: np.ndarray, layout: KvLayout) -> None:
    """Read a block and prove that it is intact and the one that was asked for.

    Raises: BlockNotFoundError, StorageError as ``BlockStore.read``; CorruptBlockError when the proof fails.
    """
    store.read(key, slot)
    verify(slot, key, layout)
