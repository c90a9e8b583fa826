"""Where an engine keeps KV while it computes: a port with two adapters, DRAM for CPU engines and HBM for GPU engines.

Both take layers and blocks out of the node's pool and bring them back there; neither knows what the bytes mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dualpath_ray.engine.meter import KvMeter, LayerTimes
from dualpath_ray.traffic.copies import ChunkPlan
from dualpath_ray.traffic.messages import LayerIn


class BatchKv(Protocol):
    """KV of one forward batch of a prefill engine: also what the model's forward asks (``LayerKv``, ``HbmKv``)."""

    times: LayerTimes
    loads: bool  # whether anything cached has to be brought

    def begin_layer(self, layer: int) -> Any: ...

    def end_layer(self, layer: int) -> None: ...

    def on_layer_in(self, message: LayerIn | None) -> None:
        """A layer's cached rows are in the pool; None when the link is gone. From the link's thread."""
        ...

    def finish(self) -> None:
        """The forward is over; returns when all new KV has left.

        Raises: what failed on the way.
        """
        ...


class PrefillMemory(Protocol):
    """Of a prefill engine. ``meter`` counts the KV that it holds outside the pool."""

    meter: KvMeter

    def batch(
        self,
        number: int,
        plans: Sequence[ChunkPlan],
        hit_slots: Sequence[Sequence[int]],
        loaded: Callable[[], None] = lambda: None,
    ) -> BatchKv:
        """A batch, whose first layers begin to come at once.

        Args: hit_slots: per request the PE slots of its hit blocks (empty on the DE path); loaded: called from the model's
            thread during the forward, once nothing of this batch is left to bring: the next batch may begin. Never called
            without layerwise.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loading:
    """A prompt's KV on its way out of the pool: one ``kv`` per sample. ``done`` never blocks, ``wait`` does."""

    kv: Sequence[Any]
    done: Callable[[], bool] = lambda: True
    wait: Callable[[], None] = lambda: None


class DecodeMemory(Protocol):
    """Of a decode engine: KV of its sequences. ``kv`` below is what ``load`` gave."""

    def load(self, slots: Sequence[int], prompt_tokens: int, max_tokens: int, num_samples: int) -> Loading:
        """Begin to copy a prompt out of its slots. There is room: the scheduler counts what requests take."""
        ...

    def step(self, sequences: Sequence[tuple[Any, int]]) -> Any:
        """What the model's forward asks of one step. Args: sequences: (kv, tokens that it has)."""
        ...

    def copy_out(self, kv: Any, first: int, slot: int) -> None:
        """Tokens [first, first + block_tokens) of all layers into a slot; they are there when this returns."""
        ...

    def free(self, kv: Any) -> None:
        """A sequence has ended."""
        ...
