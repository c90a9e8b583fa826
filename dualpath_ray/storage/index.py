"""The index of one shard of the block space: a trie of block keys with capacity, pins and eviction (appendix A.5).

Pure: no I/O and no clock. A block's parent may live on another shard; then only the order of use, in which a chain's
deeper blocks count as used earlier, keeps leaves before their ancestors.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.kv.seal import SealedHeader

WriteEntry = tuple[bytes, bytes, int, str]  # key, parent key, weights version, trajectory id
_Rank = tuple[int, float, int]


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What becomes of a batch of writes: keys, in the order of the batch; ``evict`` in the order of eviction."""

    to_write: tuple[bytes, ...]
    evict: tuple[bytes, ...]
    refused: tuple[bytes, ...]


@dataclass(slots=True)
class _Block:
    parent: bytes
    weights_version: int
    trajectory_id: str
    last_used: float
    order: int  # breaks ties of last_used; unique
    ended: bool = False  # its trajectory ended and nothing asked for it since


class BlockIndex:
    """Which blocks a shard holds, which are being written, and which go when room is needed.

    Evicted first: blocks of old weights, then of ended trajectories, then the least recently used; a block only after
    its children, and never while pinned or being written.
    """

    def __init__(self, capacity_blocks: int) -> None:
        if capacity_blocks < 1:
            raise ConfigError("storage.capacity: it must hold at least one block")
        self._capacity_blocks = capacity_blocks
        self._weights_version = 0
        self._order = 0
        self._num_evicted = 0
        self._reset()

    def lookup(self, keys: Sequence[bytes], now: float) -> list[bool]:
        """Per key, whether it is committed or being written; those that are count as used ``now`` (seconds)."""
        self._order += len(keys)
        present = []
        for depth, key in enumerate(keys):
            here = key in self._blocks
            present.append(here)
            if here:
                self._touch(key, now, self._order - depth)
        return present

    def pin(self, attempt_id: str, keys: Iterable[bytes]) -> None:
        """Keep those of ``keys`` that are here from eviction until ``unpin``; pinning twice is pinning once."""
        held = self._attempts.setdefault(attempt_id, set())
        for key in keys:
            if key in self._blocks and key not in held:
                held.add(key)
                self._pins[key] += 1
        if not held:
            del self._attempts[attempt_id]

    def unpin(self, attempt_id: str) -> None:
        """Give up all pins of an attempt; no error when it has none."""
        for key in self._attempts.pop(attempt_id, ()):
            _decrement(self._pins, key)
            self._offer(key)

    def begin_write(self, entries: Sequence[WriteEntry], now: float) -> WritePlan:
        """Make room for new blocks and mark them as being written until ``commit`` or ``abort``.

        Args:    entries: parents before their children.
        Returns: the keys to write (those already here are not among them), to evict and refused for want of room.
                 The child of a refused block is refused too: it could not be reached.
        """
        guard = {key for entry in entries for key in entry[:2]}  # evicting these would undo the use of this very batch
        aside: list[tuple[_Rank, bytes]] = []
        to_write: list[bytes] = []
        evict: list[bytes] = []
        refused: dict[bytes, None] = {}
        self._order += len(entries)
        for depth, (key, parent, version, trajectory_id) in enumerate(entries):
            order = self._order - depth
            if key in self._blocks:
                self._touch(key, now, order)
                continue
            if parent in refused:
                refused[key] = None
                continue
            if len(self._blocks) >= self._capacity_blocks:
                victim = self._evict_one(guard, aside)
                if victim is None:
                    refused[key] = None
                    continue
                evict.append(victim)
            self._writing.add(key)
            self._add(key, _Block(parent, version, trajectory_id, now, order))
            to_write.append(key)
        for item in aside:
            heappush(self._heap, item)
        return WritePlan(tuple(to_write), tuple(evict), tuple(refused))

    def commit(self, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """The writes of ``keys`` are whole. Returns those that the index does not know (it was rebuilt meanwhile)."""
        unknown = []
        for key in keys:
            if key not in self._blocks:
                unknown.append(key)
            elif key in self._writing:
                self._writing.remove(key)
                self._offer(key)
        return tuple(unknown)

    def abort(self, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """The writes of ``keys`` failed. Returns those that were being written, now forgotten."""
        failed = tuple(key for key in dict.fromkeys(keys) if key in self._writing)
        for key in failed:
            self._remove(key)
        return failed

    def invalidate(self, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """Forget corrupt or missing blocks, pinned or not. Returns those removed.

        One that is being written stays: the report is about an earlier copy.
        """
        bad = tuple(key for key in dict.fromkeys(keys) if self.is_committed(key))
        for key in bad:
            self._remove(key)
        return bad

    def is_committed(self, key: bytes) -> bool:
        """Whether the block is here and whole."""
        return key in self._blocks and key not in self._writing

    def another_than(self, keys: Collection[bytes]) -> bytes | None:
        """Some committed block that is none of these."""
        return next((key for key in self._blocks if key not in keys and key not in self._writing), None)

    def is_writing(self, key: bytes) -> bool:
        """Whether the block is being written."""
        return key in self._writing

    def end_trajectory(self, trajectory_id: str) -> None:
        """Its blocks go early from now on, unless they are asked for again (a shared prefix)."""
        for key in self._by_trajectory.pop(trajectory_id, ()):
            self._blocks[key].ended = True
            self._offer(key)

    def set_weights_version(self, version: int) -> None:
        """Blocks of earlier versions go first from now on: no request of the new one can hit them. Never goes back."""
        self._weights_version = max(self._weights_version, version)
        self._rebuild_heap()

    def restore(self, blocks: Iterable[tuple[SealedHeader, float]]) -> tuple[bytes, ...]:
        """Take in the blocks that a scan found, each with its last use. Returns those that exceed the capacity."""
        for header, last_used in blocks:
            if header.key not in self._blocks:
                self._order += 1
                self._add(header.key, _Block(header.parent, header.weights_version, "", last_used, self._order))
        self._rebuild_heap()
        evict: list[bytes] = []
        while len(self._blocks) > self._capacity_blocks and (victim := self._evict_one(frozenset(), [])) is not None:
            evict.append(victim)
        return tuple(evict)

    def clear(self) -> tuple[bytes, ...]:
        """Forget every block, write and pin. Returns the keys that were here."""
        keys = tuple(self._blocks)
        self._reset()
        return keys

    def stats(self) -> dict[str, int]:
        """Counts of blocks for status and metrics."""
        return {
            "num_blocks": len(self._blocks),
            "num_writing": len(self._writing),
            "num_pinned": len(self._pins),
            "num_pinning_attempts": len(self._attempts),
            "num_eviction_entries": len(self._heap),
            "num_evicted": self._num_evicted,
            "capacity_blocks": self._capacity_blocks,
            "weights_version": self._weights_version,
        }

    def _reset(self) -> None:
        self._blocks: dict[bytes, _Block] = {}
        self._writing: set[bytes] = set()
        self._children: Counter[bytes] = Counter()  # by parent, whether or not the parent is on this shard
        self._pins: Counter[bytes] = Counter()  # by key, so that a pin outlives the block it was for
        self._attempts: dict[str, set[bytes]] = {}
        self._by_trajectory: dict[str, set[bytes]] = {}
        self._heap: list[tuple[_Rank, bytes]] = []  # of evictable blocks; an entry whose rank has changed is stale

    def _add(self, key: bytes, block: _Block) -> None:
        self._blocks[key] = block
        self._children[block.parent] += 1
        if block.trajectory_id:
            self._by_trajectory.setdefault(block.trajectory_id, set()).add(key)

    def _remove(self, key: bytes) -> None:
        block = self._blocks.pop(key)
        self._writing.discard(key)
        _decrement(self._children, block.parent)
        siblings = self._by_trajectory.get(block.trajectory_id)
        if siblings is not None:
            siblings.discard(key)
            if not siblings:
                del self._by_trajectory[block.trajectory_id]
        self._offer(block.parent)

    def _touch(self, key: bytes, now: float, order: int) -> None:
        block = self._blocks[key]
        block.last_used, block.order, block.ended = now, order, False
        self._offer(key)

    def _evictable(self, key: bytes) -> bool:
        return key not in self._writing and key not in self._children and key not in self._pins

    def _rank(self, block: _Block) -> _Rank:
        kind = 0 if block.weights_version < self._weights_version else 1 if block.ended else 2
        return (kind, block.last_used, block.order)

    def _offer(self, key: bytes) -> None:
        """Enter a block in the heap of evictable ones if it is here and is one."""
        block = self._blocks.get(key)
        if block is None or not self._evictable(key):
            return
        heappush(self._heap, (self._rank(block), key))
        if len(self._heap) > 2 * len(self._blocks) + 64:  # mostly stale; amortised over as many pushes
            self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [(self._rank(block), key) for key, block in self._blocks.items() if self._evictable(key)]
        heapify(self._heap)

    def _evict_one(self, guard: set[bytes] | frozenset[bytes], aside: list[tuple[_Rank, bytes]]) -> bytes | None:
        """Remove the first evictable block outside ``guard``; guarded ones go to ``aside``. Amortised O(log blocks)."""
        while self._heap:
            rank, key = heappop(self._heap)
            block = self._blocks.get(key)
            if block is None or not self._evictable(key) or rank != self._rank(block):
                continue
            if key in guard:
                aside.append((rank, key))
                continue
            self._remove(key)
            self._num_evicted += 1
            return key
        return None


def _decrement(counter: Counter[bytes], key: bytes) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
