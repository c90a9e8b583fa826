"""The block space as one index over its shards: one batched call per shard."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from dualpath_ray.storage.shards import shard_of, split

ABSENT, COMMITTED, BEING_WRITTEN = range(3)  # what ``lookup`` says of a key


class ShardedIndex:
    """Calls storage nodes without blocking.

    Args: call: (shard, method, args) -> Future of the result; Ray's handles hide behind it, so a test needs none.
    """

    def __init__(self, num_shards: int, call: Callable[[int, str, tuple[Any, ...]], Future[Any]]) -> None:
        self._num_shards, self._call = num_shards, call

    def lookup(self, client_id: str, attempt_id: str, keys: Sequence[bytes]) -> Future[list[int]]:
        """Per key ABSENT, COMMITTED or BEING_WRITTEN; every shard pins what it has of its leading run."""
        return self._per_key("lookup", keys, lambda part: (client_id, attempt_id, part))

    def await_written(self, keys: Sequence[bytes], timeout_s: float = 3600.0) -> Future[list[bool]]:
        """Per key whether it is committed, once none is being written."""
        return self._per_key("await_written", keys, lambda part: (part, timeout_s))

    def begin_write(self, entries: Sequence[tuple[bytes, bytes, int, str]]) -> Future[tuple[list[bytes], list[bytes]]]:
        """(keys to write, keys refused) of (key, parent, weights version, trajectory id) entries."""
        parts = split([e[0] for e in entries], self._num_shards)
        calls = [(s, ([tuple(entries[i]) for i in part],)) for s, part in enumerate(parts) if part]
        return _gather(
            [self._call(s, "begin_write", args) for s, args in calls],
            lambda plans: ([k for p in plans for k in p.to_write], [k for p in plans for k in p.refused]),
        )

    def each(self, method: str, *args: Any) -> Future[list[Any]]:
        """The same call to every shard."""
        return _gather([self._call(s, method, args) for s in range(self._num_shards)], list)

    def suspect(self, keys: Sequence[bytes]) -> Future[list[bool]]:
        """Per key whether its storage node itself finds the block intact; those that are not are forgotten."""
        return self._per_key("suspect", keys, lambda part: (part,))

    def by_key(self, method: str, keys: Sequence[bytes]) -> Future[list[Any]]:
        """``commit`` or ``abort`` on the shards that own the keys."""
        parts: dict[int, list[bytes]] = {}
        for key in keys:
            parts.setdefault(shard_of(key, self._num_shards), []).append(key)
        return _gather([self._call(s, method, (part,)) for s, part in parts.items()], list)

    def _per_key(
        self, method: str, keys: Sequence[bytes], args: Callable[[list[bytes]], tuple[Any, ...]]
    ) -> Future[list[Any]]:
        parts = [(s, part) for s, part in enumerate(split(keys, self._num_shards)) if part]

        def merge(answers: list[Any]) -> list[Any]:
            merged: list[Any] = [None] * len(keys)
            for (_, part), answer in zip(parts, answers, strict=True):
                for index, value in zip(part, answer, strict=True):
                    merged[index] = value
            return merged

        return _gather([self._call(s, method, args([keys[i] for i in part])) for s, part in parts], merge)


def _gather(futures: list[Future[Any]], merge: Callable[[list[Any]], Any]) -> Future[Any]:
    """One future of the merged results; the first error wins."""
    out: Future[Any] = Future()
    left = len(futures)
    lock = threading.Lock()  # callbacks come from the threads that complete the futures
    if not left:
        out.set_result(merge([]))
        return out

    def one_done(_: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left:
                return
        try:
            out.set_result(merge([f.result() for f in futures]))
        except Exception as error:
            out.set_exception(error)

    for future in futures:
        future.add_done_callback(one_done)
    return out
