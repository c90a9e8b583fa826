"""A storage server: the index of its shard of the block space, and every deletion in its store."""

import mmap
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import ray

from dualpath_ray.base.errors import BlockNotFoundError, CorruptBlockError, UnendedReadError
from dualpath_ray.base.nic_choice import AUTO, SNIC_KEY, named_device
from dualpath_ray.base.nic_devices import read_devices
from dualpath_ray.base.types import CLIENT_SILENT_S
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.observability.ray_export import STORAGE, Exporter, ExportSettings
from dualpath_ray.storage.client import ABSENT, BEING_WRITTEN, COMMITTED
from dualpath_ray.storage.index import BlockIndex, WriteEntry, WritePlan
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.port import read_verified
from dualpath_ray.storage.root import is_address
from dualpath_ray.storage.server import BlockServer
from dualpath_ray.storage.sharded import Shard


class StorageNode:
    """Answers lookups and grants writes; the bytes go between the traffic managers and the store directly.

    Every method is one batch and may be called from many threads. The index is rebuilt from the store at start, so a
    crash loses nothing but writes under way, which their writers then abort or see deleted.
    """

    def __init__(
        self,
        name: str,
        store_spec: str,
        root: str,
        layout: KvLayout,
        capacity_bytes: int,
        snic: str = AUTO,
        stays: bool = True,
        observe: ExportSettings | None = None,
    ) -> None:
        """Args: snic: the device on which readers reach this node; ``auto``: that of its Ray node's address.
        stays: the blocks outlive their system.

        Raises: ConfigError for an unknown store or device or a capacity below a block; StorageError when it is unreadable.
        """
        self.name, self._root, self._stays = name, root, stays
        address = _address_of(snic, name)
        self._layout = layout
        self._store = open_store(store_spec, root, layout)
        self._index = BlockIndex(capacity_bytes // layout.sealed_bytes)
        self._changed = threading.Condition()
        self._deleting: Counter[bytes] = Counter()  # a file may be under deletion twice
        self._suspected: Counter[bytes] = Counter()
        self._attempts: dict[str, set[str]] = {}  # by client: those that may have pins
        self._heard_s: dict[str, float] = {}
        self._totals = dict.fromkeys(
            ("lookup_blocks", "hit_blocks", "committed_blocks", "refused_blocks", "corrupt_blocks", "delete_errors"), 0
        )
        excess = self._index.restore(self._store.scan())
        self._store.check()
        self._deleting.update(excess)
        self._delete(excess)
        self._server = BlockServer(self._store, layout, address)
        self._exporter = Exporter(observe, STORAGE, {"node": name}, self.__repr__, self.status) if observe else None

    def __repr__(self) -> str:
        """Shown in the Ray dashboard's actor table."""
        return f"StorageNode {self.name.removeprefix('storage')} at {self._root}"

    def shard(self) -> Shard:
        """How readers reach the store: through its files where they see the same ones, else through this process."""
        return Shard(self._store.identity(), self._server.at)

    def renew(self, client_id: str) -> int:
        """This client lives, so its pins hold; those of clients that fell silent go. Returns the weights version."""
        with self._changed:
            now = time.monotonic()
            self._heard_s[client_id] = now
            for silent in [c for c, heard in self._heard_s.items() if now - heard > CLIENT_SILENT_S]:
                del self._heard_s[silent]
                for attempt_id in self._attempts.pop(silent, ()):
                    self._index.unpin(attempt_id)
            return self._index.stats()["weights_version"]

    def lookup(self, client_id: str, attempt_id: str, keys: Sequence[bytes]) -> bytes:
        """A byte per key: ABSENT, COMMITTED or BEING_WRITTEN; the leading run of present ones is pinned."""
        with self._changed:
            self._heard_s.setdefault(client_id, time.monotonic())
            self._attempts.setdefault(client_id, set()).add(attempt_id)
            present = self._index.lookup(keys, time.time())
            run = present.index(False) if False in present else len(present)
            self._index.pin(attempt_id, keys[:run])
            self._totals["lookup_blocks"] += len(keys)
            self._totals["hit_blocks"] += sum(present)
            return bytes(
                (BEING_WRITTEN if self._index.is_writing(key) else COMMITTED) if here else ABSENT
                for key, here in zip(keys, present, strict=True)
            )

    def unpin(self, client_id: str, attempt_ids: Sequence[str]) -> None:
        """The attempts read nothing any more."""
        with self._changed:
            self._attempts.get(client_id, set()).difference_update(attempt_ids)
            for attempt_id in attempt_ids:
                self._index.unpin(attempt_id)

    def begin_write(self, entries: Sequence[WriteEntry]) -> WritePlan:
        """Grant writes and make room for them; when this returns, the evicted files are gone.

        Args: entries: (key, parent key, weights version, trajectory id), parents first.
        """
        with self._changed:
            # A file that is being deleted must be gone before it is written anew, or the deletion takes the new one; and
            # one that is suspected counts as here until it has been looked at: what was computed anew would not be stored.
            self._changed.wait_for(lambda: not any(e[0] in self._deleting or e[0] in self._suspected for e in entries))
            plan = self._index.begin_write(entries, time.time())
            self._totals["refused_blocks"] += len(plan.refused)
            self._deleting.update(plan.evict)
        self._delete(plan.evict)
        return plan

    def commit(self, keys: Sequence[bytes]) -> None:
        """The blocks are in the store, whole."""
        with self._changed:
            unknown = self._index.commit(keys)  # begun before a restart or a clear: no index, no quota, no file
            self._totals["committed_blocks"] += len(keys) - len(unknown)
            self._deleting.update(unknown)
            self._changed.notify_all()
        self._delete(unknown)

    def abort(self, keys: Sequence[bytes]) -> None:
        """The writes failed or were given up."""
        self._forget(lambda: self._index.abort(keys))

    def suspect(self, keys: Sequence[bytes]) -> list[bool]:
        """A reader could not use these blocks. Looks itself, and forgets and deletes those that are corrupt or missing.

        The reader's word is not enough: its mount may be gone, or its memory bad, and others read the blocks well.

        Returns: per key, whether the block is in the store, intact as far as this node can tell.
        """
        with self._changed:  # one that is being written anew is not the one that was read
            here = [key for key in keys if self._index.is_committed(key)]
            self._suspected.update(here)
        removed = 0
        try:
            bad = self._bad(here)
            removed = self._forget(lambda: self._index.invalidate(bad))
        finally:
            with self._changed:
                self._suspected.subtract(here)
                self._suspected = +self._suspected  # drops what is at zero
                self._totals["corrupt_blocks"] += removed
                self._changed.notify_all()
        return [key in here and key not in bad for key in keys]

    def _bad(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those that are corrupt or missing, and those that cannot be read while others can.

        A read that fails is the device's fault, not its block's, where no other block can be read either; one that does not
        end, in any case: it ends the search, since others wait for this to be over.
        """
        slot = np.frombuffer(mmap.mmap(-1, self._layout.slot_bytes), np.uint8)  # on a page, as direct I/O wants it
        bad: list[bytes] = []
        unread: list[bytes] = []
        for key in keys:
            try:
                read_verified(self._store, key, slot, self._layout)
            except (BlockNotFoundError, CorruptBlockError):
                bad.append(key)
            except UnendedReadError:
                return bad
            except Exception:  # a store of the user's own may raise anything
                unread.append(key)
        return bad + unread if unread and self._can_read_another(keys, slot) else bad

    def _can_read_another(self, keys: Sequence[bytes], slot: np.ndarray) -> bool:
        with self._changed:
            other = self._index.another_than(keys)
        if other is None:
            return False
        try:
            read_verified(self._store, other, slot, self._layout)
        except CorruptBlockError:
            return True
        except Exception:  # as above
            return False
        return True

    @ray.method(concurrency_group="wait")
    def await_written(self, keys: Sequence[bytes], timeout_s: float) -> list[bool]:
        """Wait, at most ``timeout_s``, until none of the blocks is being written. Returns which are committed."""
        with self._changed:
            self._changed.wait_for(lambda: not any(map(self._index.is_writing, keys)), timeout_s)
            return [self._index.is_committed(key) for key in keys]

    def end_trajectories(self, trajectory_ids: Iterable[str]) -> None:
        """Their blocks may go early."""
        with self._changed:
            for trajectory_id in trajectory_ids:
                self._index.end_trajectory(trajectory_id)

    def set_weights_version(self, version: int) -> int:
        """Blocks of earlier weights go first. Returns the version in force: a later one stays."""
        with self._changed:
            self._index.set_weights_version(version)
            return self._index.stats()["weights_version"]

    def clear(self) -> None:
        """Delete every block."""
        self._forget(self._index.clear)

    def remove(self) -> None:
        """Its system is gone: delete every block, and the directory that held them, unless they are to stay."""
        self._server.close()
        if self._stays or is_address(self._root):
            return
        self.clear()
        shutil.rmtree(self._root, ignore_errors=True)
        with suppress(OSError):  # what is above the shards, once the last of them is gone
            Path(self._root).parent.rmdir()

    def status(self) -> dict[str, object]:
        """Counts of blocks and bytes, for people and metrics."""
        with self._changed:
            stats = self._index.stats()
            totals = dict(self._totals)
        block_bytes = self._layout.sealed_bytes
        return {
            "name": self.name,
            "store": self._store.name,
            "address": self._server.at.host,
            "used_bytes": stats["num_blocks"] * block_bytes,
            "capacity_bytes": stats["capacity_blocks"] * block_bytes,
            **stats,
            **totals,
            "cpu_s": sum(os.times()[:2]),
        }

    def ray_node(self) -> str:
        """Id of the Ray node that this storage node runs on."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def ping(self) -> str:
        """The node's name: it is alive and its index is ready."""
        return self.name

    def _forget(self, remove: Callable[[], tuple[bytes, ...]]) -> int:
        """Take blocks out of the index and delete their files. Returns how many."""
        with self._changed:
            removed = remove()
            self._deleting.update(removed)
            self._changed.notify_all()  # a wait for a write that will not come is over
        self._delete(removed)
        return len(removed)

    def _delete(self, keys: Sequence[bytes]) -> None:
        """Delete files outside the lock; ``keys`` stand in ``_deleting`` until they are gone."""
        num_errors = 0
        for key in keys:
            try:
                self._store.delete(key)
            except Exception:  # a store of the user's own may raise anything
                num_errors += 1  # the file stays until a restart scans it: disk is lost, nothing wrong is served
        if keys:
            with self._changed:
                self._deleting.subtract(keys)
                self._deleting = +self._deleting  # drops what is at zero
                self._totals["delete_errors"] += num_errors
                self._changed.notify_all()


def _address_of(snic: str, who: str) -> str:
    if snic == AUTO:
        node: str = ray.util.get_node_ip_address()
        return node
    return str(named_device(snic, SNIC_KEY, f"the host of {who}", read_devices()).address)


# Waits have threads of their own: were they to fill the default group, the commit they wait for could not get in.
StorageNodeActor = ray.remote(num_cpus=0, max_concurrency=32, concurrency_groups={"wait": 64})(StorageNode)
