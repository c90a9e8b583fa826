"""``dualpath bench storage``: blocks from a store into pool slots, beside the simplest loop of direct reads (section 4.1).

Every way reads the same bytes from the same disk into the same slots, once a round. What verification costs is little, so
the two ways that tell it have rounds of their own, as have writes, which a disk goes on with when they are over.
"""

import mmap
import queue
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.bench.direct_loop import DirectReadLoop
from dualpath_ray.bench.rates import RateRow, Sample, in_rounds, median_s, optional, rate_row, result, table, timed
from dualpath_ray.bench.result import write_result
from dualpath_ray.cluster.leftovers import temporary_dir
from dualpath_ray.cluster.plan import LEAST_IO_DEPTH, MOST_IO_DEPTH
from dualpath_ray.kv.keys import ROOT
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal
from dualpath_ray.ops.results_dir import make_out
from dualpath_ray.storage.io_pool import IoPool
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.local import LocalBlockStore
from dualpath_ray.storage.port import BlockStore, read_verified
from dualpath_ray.storage.served import ServedBlockStore
from dualpath_ray.storage.server import BlockServer

READ_AT_LEAST = 0.9  # of the loop, verified
VERIFIED_AT_LEAST = 0.95  # of the same reads without verification
LOOP = "direct read loop"
_LAYERS, _BLOCK_TOKENS = 16, 64
_LATENCIES = 32  # calls that a latency is the median of


def run(
    block_sizes: Sequence[int], total_bytes: int, rounds: int, path: Path | None, out: Path, echo: Callable[[str], None]
) -> dict[str, Any]:
    """Run the benchmark and write ``storage.json``.

    Args: block_sizes: bytes of a Full Block; total_bytes: read by each way in a round; path: on the disk to measure, None
        for the temporary directory.
    Raises: ConfigError when there is no room.
    """
    make_out(out)
    rows: list[RateRow] = []
    skipped: list[str] = []
    for size in block_sizes:
        layout = KvLayout(_LAYERS, _BLOCK_TOKENS, size // (_LAYERS * _BLOCK_TOKENS))
        with _folder(path) as folder:
            bench = _StorageBench(layout, folder, max(8, total_bytes // layout.sealed_bytes))
            rows += bench.rows(rounds, skipped)
            bench.close()
    found = result(rows, list(dict.fromkeys(skipped)))
    write_result(out / "storage.json", found)
    for line in [*table(rows), *(f"not here: {reason}" for reason in found["skipped"])]:
        echo(line)
    return found


@contextmanager
def _folder(path: Path | None) -> Iterator[Path]:
    folder = temporary_dir("store") if path is None else path / f"bench-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--path: cannot make the directory {folder} ({error.strerror}); name another one") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _StorageBench:
    """The same blocks behind several stores, and one file of the same size."""

    def __init__(self, layout: KvLayout, folder: Path, num_blocks: int) -> None:
        self._layout, self._folder = layout, folder
        self._keys = [secrets.token_bytes(32) for _ in range(num_blocks)]
        self._memory = np.frombuffer(mmap.mmap(-1, MOST_IO_DEPTH * layout.slot_bytes), np.uint8)
        self._memory[:] = np.random.default_rng(0).integers(0, 256, len(self._memory), np.uint8)
        self._slots = self._memory.reshape(MOST_IO_DEPTH, layout.slot_bytes)
        self._free: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._pools: dict[str, IoPool] = {}
        self._loop = DirectReadLoop(folder, self._free, num_blocks)
        self._owner = LocalBlockStore(folder / "blocks", layout)
        list(self._owner.scan())
        for key in self._keys:
            seal(self._slots[0], SealedHeader(layout, 0, key, ROOT))
            self._owner.write(key, self._slots[0])
        self._stores: list[BlockStore] = [self._owner]
        self._server = BlockServer(self._owner, layout, "127.0.0.1")

    def rows(self, rounds: int, skipped: list[str]) -> list[RateRow]:
        size = self._layout.full_block_bytes
        stores: dict[str, BlockStore] = {"local": self._owner}
        nixl = optional(skipped, "NIXL POSIX", partial(open_store, "nixl_posix", str(self._owner.name), self._layout))
        if nixl is not None:
            nixl.attach(self._memory, "")
            stores["NIXL POSIX"] = nixl
        stores["served over loopback TCP"] = ServedBlockStore(self._server.at, self._layout, "bench")
        self._stores = list(stores.values())
        reads: dict[str, Callable[[], Sample]] = {LOOP: self._loop.read}
        for name, store in stores.items():
            reads[f"{name}, verified"] = partial(self._read, store, True)
        reads["local, not verified"] = partial(self._read, self._owner, False)
        pair = {name: reads[name] for name in ("local, verified", "local, not verified")}
        writes = {"local, written": partial(self._write, self._owner)}
        for way in reads.values():
            way()  # connections, threads, and the depth that suits
        found = in_rounds(reads, rounds)
        verified, plain = in_rounds(pair, rounds).values()
        self._write(self._owner)
        # In rounds of their own, behind the others: what they leave on the device would slow whatever came next.
        found |= in_rounds(writes, rounds)
        rows = []
        for name, samples in found.items():
            store_name, _, how = name.partition(", ")
            if name == LOOP:
                continue
            latency = self._latency_s(stores[store_name], how)
            wanted = READ_AT_LEAST if name == "local, verified" else None
            rows.append(rate_row(name, size, samples, LOOP, found[LOOP], latency, wanted))
        rows.append(rate_row("verification", size, verified, "local, not verified", plain, at_least=VERIFIED_AT_LEAST))
        return rows

    def _read(self, store: BlockStore, verified: bool) -> Sample:
        def read(key: bytes, slot: np.ndarray) -> None:
            if verified:
                read_verified(store, key, slot, self._layout)
            else:
                store.read(key, slot)

        return self._each(store.name, self._keys, read)

    def _write(self, store: BlockStore) -> Sample:
        keys = [secrets.token_bytes(32) for _ in self._keys]
        sample = self._each("writes", keys, store.write)
        for key in keys:
            store.delete(key)
        return sample

    def _each(self, pool_name: str, keys: Sequence[bytes], work: Callable[[bytes, np.ndarray], None]) -> Sample:
        """A call for each key, in a pool that keeps the depth it has found."""
        pool = self._pools.setdefault(pool_name, IoPool("bench", LEAST_IO_DEPTH, MOST_IO_DEPTH))

        def one(key: bytes) -> None:
            slot = self._free.get()
            try:
                work(key, slot)
            finally:
                self._free.put(slot)

        def all_of_it() -> None:
            for future in [pool.submit(partial(one, key), self._layout.sealed_bytes) for key in keys]:
                future.result()

        return timed(len(keys) * self._layout.sealed_bytes, all_of_it)

    def _latency_s(self, store: BlockStore, how: str) -> float:
        slot, key = self._slots[0], self._keys[0]
        if how == "written":
            return median_s(lambda: store.write(key, slot), _LATENCIES)
        read = read_verified if how == "verified" else lambda store, key, slot, layout: store.read(key, slot)
        return median_s(lambda: read(store, key, slot, self._layout), _LATENCIES)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        for store in self._stores:
            store.close()
        self._server.close()
        self._loop.close()
