"""Block index and store of one process, with the semantics of the storage nodes, and faults on demand."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from dualpath_ray.base.errors import StorageError
from dualpath_ray.kv.keys import hit_blocks
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.storage.index import BlockIndex
from dualpath_ray.storage.memory import MemoryBlockStore
from dualpath_ray.storage.port import read_verified


class FakeStorage:
    """Answers what ``ShardedIndex`` answers; a wait for a write is answered when the write is over."""

    def __init__(self, layout: KvLayout, capacity_blocks: int = 10**6) -> None:
        self.layout = layout
        self.store = MemoryBlockStore(layout)
        self.index = BlockIndex(capacity_blocks)
        self.failing_writes = 0  # so many of the next writes fail
        self._waits: list[tuple[Sequence[bytes], Callable[[Any], None]]] = []
        self._time = 0.0

    # what a client does ----------------------------------------------------------------------------------------------

    def lookup(self, pin_id: str, keys: Sequence[bytes], prompt_tokens: int) -> tuple[int, list[bool]]:
        """(hit blocks, which of them are being written); pinned until ``unpin``."""
        self._time += 1
        present = self.index.lookup(keys, self._time)
        hits = hit_blocks(present, prompt_tokens, self.layout.block_tokens)
        self.index.pin(pin_id, keys[:hits])
        return hits, [self.index.is_writing(key) for key in keys[:hits]]

    def unpin(self, pin_id: str) -> None:
        self.index.unpin(pin_id)

    # what traffic managers do ----------------------------------------------------------------------------------------

    def call(self, method: str, args: tuple[Any, ...], reply: Callable[[Any], None]) -> None:
        """Carry out an IndexCall; ``reply`` may come later."""
        self._time += 1
        if method == "await_written":
            self._waits.append((args[0], reply))
        elif method == "begin_write":
            plan = self.index.begin_write(args[0], self._time)
            self._delete(plan.evict)
            reply((list(plan.to_write), list(plan.refused)))
        elif method == "suspect":
            intact = [self._is_intact(key) for key in args[0]]
            self._delete(self.index.invalidate([k for k, good in zip(args[0], intact, strict=True) if not good]))
            reply(intact)
        else:
            self._delete(getattr(self.index, method)(args[0]))
            reply(None)
        self._answer_waits()

    def _answer_waits(self) -> None:
        over = [wait for wait in self._waits if not any(map(self.index.is_writing, wait[0]))]
        self._waits = [wait for wait in self._waits if wait not in over]
        for keys, reply in over:
            reply([self.index.is_committed(key) for key in keys])

    def _is_intact(self, key: bytes) -> bool:
        try:
            read_verified(self.store, key, np.empty(self.layout.slot_bytes, np.uint8), self.layout)
        except StorageError:
            return False
        return True

    def _delete(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            self.store.delete(key)

    def write(self, key: bytes, slot: np.ndarray) -> None:
        """Raises: StorageError when this write is to fail."""
        if self.failing_writes:
            self.failing_writes -= 1
            raise StorageError("no answer from the disk")
        self.store.write(key, slot)

    # faults ----------------------------------------------------------------------------------------------------------

    def damage(self, random: Random) -> None:
        """Flip a byte of a stored block, lose one, or swap two."""
        keys = [header.key for header, _ in self.store.scan()]
        if not keys:
            return
        kind, key = random.choice(["flip", "lose", "swap"]), random.choice(keys)
        if kind == "lose":
            self.store.delete(key)
        elif kind == "swap" and len(keys) > 1:
            other = random.choice([k for k in keys if k != key])
            one, two = self._stored(key), self._stored(other)
            self.store.write(key, two)
            self.store.write(other, one)
        else:
            block = self._stored(key)
            first = self.layout.header_bytes
            block[random.randrange(first, first + self.layout.full_block_bytes)] ^= 1 << random.randrange(8)
            self.store.write(key, block)

    def _stored(self, key: bytes) -> np.ndarray:
        slot = np.empty(self.layout.slot_bytes, np.uint8)
        self.store.read(key, slot)
        return slot
