"""``dualpath profile``: alpha, beta and the quota's predictor, measured on the engine and the store at hand."""

import mmap
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dualpath_ray.cluster.leftovers import temporary_dir
from dualpath_ray.cluster.plan import (
    LEAST_IO_DEPTH,
    MOST_IO_DEPTH,
    SystemPlan,
    check_store,
    make_plan,
    naming,
    store_root,
)
from dualpath_ray.config.load import load_cluster
from dualpath_ray.engine.profile import EngineProfile, profile_engine
from dualpath_ray.kv.keys import ROOT
from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.seal import SealedHeader, seal
from dualpath_ray.storage.io_pool import IoPool
from dualpath_ray.storage.load import open_store
from dualpath_ray.storage.port import BlockStore
from dualpath_ray.storage.root import child, is_address

_REPEATS = 9
_READ_BYTES = 256 * 2**20  # read in all, of blocks that take at most a quarter of it


def profile_config(path: Path, echo: Callable[[str], None], say: Callable[[str], None]) -> dict[str, Any]:
    """Profile one engine with the threads it will have, and a node's reads from the store.

    Args:   echo: gets what to put into the configuration, valid YAML and nothing else; say: gets the explanation.
    Raises: ConfigError naming file and key.
    """
    config = load_cluster(path)
    engine, plan = config.engine, make_plan(config, str(path), 2048)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import torch

    torch.set_num_threads(plan.threads_per_engine)
    from dualpath_ray.engine.model import ModelAdapter

    say(f"profiling {config.model} on {plan.threads_per_engine} thread(s)")
    adapter = ModelAdapter(plan.description, engine.dtype, config.seed, engine.device, engine.stored_dtype)
    profile = profile_engine(adapter, plan.max_context_tokens, _REPEATS)
    with naming(str(path)):
        profile = replace(profile, read_bytes_per_s=measure_reads(plan))
    _explain(plan, profile, say)
    echo(yaml.safe_dump({"profile": profile.to_dict()}, sort_keys=False).rstrip())
    return profile.to_dict()


def measure_reads(plan: SystemPlan) -> float:
    """Bytes per second that one node reads from the store: blocks of this layout, as many at once as it will have.

    Raises: ConfigError naming ``storage.path`` when it cannot be written.
    """
    layout, storage = plan.layout, plan.config.storage
    num_blocks = max(MOST_IO_DEPTH, _READ_BYTES // 4 // layout.sealed_bytes)
    name = f"profile-{secrets.token_hex(4)}"
    root = child(store_root(storage.path), name) if storage.path else str(temporary_dir("store"))
    check_store(root)
    store = open_store(storage.store, root, layout)
    keys = [secrets.token_bytes(32) for _ in range(num_blocks)]
    try:
        slot = np.frombuffer(mmap.mmap(-1, layout.slot_bytes), np.uint8)
        for key in keys:
            seal(slot, SealedHeader(layout, 0, key, ROOT))
            store.write(key, slot)
        return _read_rate(store, keys, layout, storage.io_depth)
    finally:
        for key in keys:  # a store of the user's own need not keep them in this directory
            store.delete(key)
        store.close()
        if not is_address(root):
            shutil.rmtree(root, ignore_errors=True)


def _read_rate(store: BlockStore, keys: Sequence[bytes], layout: KvLayout, depth: int | None) -> float:
    """Bytes per second of reading the blocks again and again."""
    mine = threading.local()

    def read(key: bytes) -> None:
        if not hasattr(mine, "slot"):
            mine.slot = np.frombuffer(mmap.mmap(-1, layout.slot_bytes), np.uint8)
        store.read(key, mine.slot)

    pool = IoPool("profile-read", depth or LEAST_IO_DEPTH, depth or MOST_IO_DEPTH)
    wanted = list(keys) * max(1, _READ_BYTES // (len(keys) * layout.sealed_bytes))
    started = time.perf_counter()
    for future in [pool.submit(partial(read, key), layout.sealed_bytes) for key in wanted]:
        future.result()
    took = time.perf_counter() - started
    pool.close()
    return len(wanted) * layout.sealed_bytes / took


def _explain(plan: SystemPlan, profile: EngineProfile, say: Callable[[str], None]) -> None:
    limits = plan.fetch_limits(profile)
    snic = "the configured rate of the storage NIC, or what was measured, whichever is less"
    say(f"store: {profile.read_bytes_per_s / 1e6:.0f} MB/s of direct reads by one node")
    say(f"alpha: {limits.short_read_queue_tokens} tokens, what a node reads in 3 s ({snic})")
    say(f"beta: {limits.max_unfinished_tokens} tokens, what the engine prefills in 5 s at nine cached for a new one")
    say(f"attention: {profile.overhead_s * 1e6:.0f} us a request and layer + {profile.s_per_flop * 1e12:.2f} ps a FLOP")
    say(f"prefill: {profile.new_tokens_per_s:.0f} new tokens/s; put this into the configuration file:")
