"""Ray Direct Transport between traffic managers, over NIXL. For who asks for it by name: it takes milliseconds a transfer.

The node that a copy comes from puts its ranges as tensors, which moves nothing; the other one gets them into its own
ranges. Who drives the copy asks the other traffic manager for its part. Ray's agents each keep a core busy.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import torch

from dualpath_ray.base.errors import ConfigError, TransportError
from dualpath_ray.kv.segment import Segment
from dualpath_ray.transport.place import Place
from dualpath_ray.transport.port import AskPeer, CopyBatch


class RdtTransport:
    """Adapter over tensors of Ray's. The traffic managers' actors must be made with ``enable_tensor_transport``."""

    name = "rdt"
    channel = "nixl"
    inline_bytes = 0

    def __init__(self, node: str, segment: Segment, help_of: Callable[[str], AskPeer]) -> None:
        """Args: help_of: how to ask a peer."""
        self._node, self._segment, self._help_of = node, segment, help_of
        self._pool = torch.from_numpy(segment.bytes)
        self._registered = False
        self._peers: dict[str, tuple[AskPeer, int]] = {}  # with the bytes of its pool

    def describe(self) -> bytes:
        return Place.of(self._node, self._segment, {}).pack()

    def connect(self, peer: str, description: bytes) -> None:
        place = Place.unpack(description)
        place.check_layout(self._node, self._segment)
        self._register()
        self._peers[peer] = self._help_of(peer), place.num_bytes

    def _register(self) -> None:
        """The pool, once: else each transfer registers its ranges anew.

        Raises: ConfigError naming ``transport`` when NIXL is missing.
        """
        if self._registered:
            return
        from ray.experimental import register_nixl_memory

        try:
            register_nixl_memory(self._pool)
        except Exception as error:  # of NIXL, of Ray
            cause: BaseException = error
            while cause.__cause__ is not None:  # Ray's own says only that it failed
                cause = cause.__cause__
            reason = " ".join(str(cause).split())[:200]
            raise ConfigError(
                f"transport: {self._node} cannot use rdt, Ray's tensors over NIXL ({reason}); install dualpath-ray[nixl]"
            ) from error
        self._registered = True

    def read(self, peer: str, batch: CopyBatch) -> None:
        def run(ask: AskPeer, merged: CopyBatch) -> None:
            self._take(ray.get(ask("put", merged.remote, merged.nbytes)), merged.local, merged.nbytes)

        self._copy(peer, batch, run)

    def write(self, peer: str, batch: CopyBatch) -> None:
        def run(ask: AskPeer, merged: CopyBatch) -> None:
            put = self._put(merged.local, merged.nbytes)
            ray.get(ask("take", merged.remote, merged.nbytes, put))

        self._copy(peer, batch, run)

    def _copy(self, peer: str, batch: CopyBatch, run: Callable[[AskPeer, CopyBatch], None]) -> None:
        if peer not in self._peers:
            raise TransportError(f"{self._node} is not connected to {peer}")
        ask, num_bytes = self._peers[peer]
        merged = batch.merged()
        merged.check_within(len(self._segment.bytes), num_bytes, f"{self._node} and {peer}")
        if not merged.total_bytes:
            return
        try:
            run(ask, merged)
        except Exception as error:  # of NIXL, of Ray
            raise TransportError(f"copy between {self._node} and {peer} failed: {error}") from error

    def help(self, what: str, offsets: np.ndarray, sizes: np.ndarray, put: list[Any] | None = None) -> list[Any] | None:
        """A peer's part of a copy. Returns: what was put, in a list, so that Ray hands on the reference and not the bytes."""
        if what == "put":
            return self._put(offsets, sizes)
        assert put is not None
        self._take(put, offsets, sizes)
        return None

    def _put(self, offsets: np.ndarray, sizes: np.ndarray) -> list[Any]:
        return [ray.put(self._sent(self._views(offsets, sizes)), _tensor_transport=self.channel)]

    def _take(self, put: list[Any], offsets: np.ndarray, sizes: np.ndarray) -> None:
        self._receive(put[0], self._views(offsets, sizes))

    def _sent(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """What is put for these ranges of the pool."""
        return views

    def _receive(self, ref: Any, views: list[torch.Tensor]) -> None:
        """Get what was put into these ranges."""
        from ray.experimental import set_target_for_ref

        set_target_for_ref(ref, views)
        # Were the target dropped, Ray would have made memory of its own.
        for view, tensor in zip(views, ray.get(ref), strict=True):
            assert view.data_ptr() == tensor.data_ptr()

    def _views(self, offsets: np.ndarray, sizes: np.ndarray) -> list[torch.Tensor]:
        return [self._pool[at : at + size] for at, size in zip(offsets.tolist(), sizes.tolist(), strict=True)]

    def disconnect(self, peer: str) -> None:
        self._peers.pop(peer, None)

    def close(self) -> None:
        """What is registered goes with the process."""
