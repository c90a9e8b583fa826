"""Model-execution traffic of an engine (section 5): the burst that an expert-parallel model's all-to-all makes in every layer.

An engine without peers replays it: after each layer as many bytes as its tokens would send and receive go over its compute
NIC, in the lane of model execution, and the next layer waits for them.
"""

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dualpath_ray.base.errors import TransportError
from dualpath_ray.engine.adapter import Adapter
from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.timed import DeviceTime, sleep_until
from dualpath_ray.traffic.messages import Collective, CollectiveDone

_KEPT = 100_000  # of the last times


class Collectives:
    """Of one engine."""

    def __init__(
        self, engine: int, bytes_per_token: int, send: Callable[[Any], None], device: DeviceTime | None = None
    ) -> None:
        """Args: bytes_per_token: sent, and received, in a layer; device: that computes, if it does so by itself."""
        self._engine, self._bytes_per_token, self._send, self._device = engine, bytes_per_token, send, device
        self._done: queue.SimpleQueue[CollectiveDone | None] = queue.SimpleQueue()
        self._op = 0
        self._times: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def run(self, num_tokens: int) -> None:
        """A layer's burst; returns when it is through. Raises: TransportError when the traffic manager is gone."""
        self._op += 1
        posted_s = self._device.at_s if self._device else time.monotonic()
        self._send(Collective(self._engine, self._op, num_tokens * self._bytes_per_token, posted_s))
        done = self._done.get()  # ends with the link, if not before
        if done is None:
            raise TransportError("the link to the traffic manager has ended, and a collective with it")
        assert done.op == self._op
        wait_until = self._device.wait_until if self._device else sleep_until
        wait_until(done.end_s)  # it is told ahead
        self._times.append((done.took_s, time.monotonic() - posted_s))

    def take_times(self) -> list[tuple[float, float]]:
        """(seconds on the wire by the NIC's schedule, seconds that the engine waited) of each burst since the last call."""
        taken = []
        while self._times:
            taken.append(self._times.popleft())
        return taken

    def on_done(self, message: CollectiveDone | None) -> None:
        """From the link's thread; None when the link is gone."""
        self._done.put(message)


class WithCollectives:
    """An adapter whose layers end with a burst."""

    def __init__(self, adapter: Adapter, collectives: Collectives) -> None:
        self._adapter, self._collectives = adapter, collectives

    @property
    def description(self) -> ModelDescription:
        return self._adapter.description

    def forward(
        self, token_ids: Sequence[Sequence[int]], starts: Sequence[int], kv: Any, logits_of: Sequence[int]
    ) -> Any:
        num_tokens = sum(map(len, token_ids))
        logits = self._adapter.forward(token_ids, starts, _BurstKv(kv, self._collectives, num_tokens), logits_of)
        self._collectives.run(num_tokens)  # of the last layer
        return logits

    def decode(self, token_ids: Sequence[int], starts: Sequence[int], kv: Any) -> Any:
        logits = self._adapter.decode(token_ids, starts, _BurstKv(kv, self._collectives, len(token_ids)))
        self._collectives.run(len(token_ids))
        return logits


class _BurstKv:
    """LayerKv: before a layer begins, the burst of the one before it."""

    def __init__(self, kv: Any, collectives: Collectives, num_tokens: int) -> None:
        self._kv, self._collectives, self._num_tokens = kv, collectives, num_tokens

    def begin_layer(self, layer: int) -> Any:
        if layer:
            self._collectives.run(self._num_tokens)
        return self._kv.begin_layer(layer)

    def end_layer(self, layer: int) -> None:
        self._kv.end_layer(layer)
