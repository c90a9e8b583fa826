"""KV of a CPU engine's sequences while they decode: in DRAM, one array a sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dualpath_ray.engine.memory import Loading
from dualpath_ray.kv.segment import Segment


@dataclass(frozen=True, slots=True)
class SequenceKv:
    """KV of one sample, both uint8 [layers, tokens, bytes_per_token_layer]: what it shares, then its own.

    Several samples share one copy of the prompt; a single one has all in ``own``, so that its rows need no joining.
    """

    shared: torch.Tensor
    own: torch.Tensor

    def rows(self, layer: int, stop: int) -> torch.Tensor:
        """Tokens [0, stop) of a layer."""
        own = self.own[layer, : stop - self.shared.shape[1]]
        return torch.cat([self.shared[layer], own]) if self.shared.shape[1] else own

    def keep_last(self, layer: int, rows: torch.Tensor) -> None:
        """The last of ``rows`` is new; it is in place already unless they were joined."""
        if self.shared.shape[1]:
            self.own[layer, len(rows) - 1 - self.shared.shape[1]] = rows[-1]

    def span(self, first: int, stop: int) -> torch.Tensor:
        """Tokens [first, stop) of all layers."""
        shared = self.shared.shape[1]
        parts = [self.shared[:, first:stop], self.own[:, max(0, first - shared) : max(0, stop - shared)]]
        return torch.cat(parts, 1)


class StepKv:
    """LayerKv of one decode step: the rows stand there already."""

    def __init__(self, sequences: Sequence[tuple[SequenceKv, int]]) -> None:
        self._sequences = sequences
        self._rows: list[torch.Tensor] = []

    def begin_layer(self, layer: int) -> list[torch.Tensor]:
        self._rows = [kv.rows(layer, tokens + 1) for kv, tokens in self._sequences]
        return self._rows

    def end_layer(self, layer: int) -> None:
        """Nothing moves: the new rows stay."""
        for (kv, _), rows in zip(self._sequences, self._rows, strict=True):
            kv.keep_last(layer, rows)


class DramSequences:
    """DecodeMemory of a CPU engine. How much it may hold is for the scheduler to know."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._layout = segment, segment.layout

    def load(self, slots: Sequence[int], prompt_tokens: int, max_tokens: int, num_samples: int) -> Loading:
        layout, size = self._layout, self._layout.block_tokens
        alone = num_samples == 1
        capacity = prompt_tokens + (max_tokens if alone else 0)
        kv = np.empty((layout.num_layers, capacity, layout.bytes_per_token_layer), np.uint8)
        for block, slot in enumerate(slots):
            first, stop = block * size, min((block + 1) * size, prompt_tokens)
            kv[:, first:stop] = self._segment.full_block(slot)[:, : stop - first]
        loaded = torch.from_numpy(kv)
        if alone:
            return Loading([SequenceKv(loaded[:, :0], loaded)])
        shape = (layout.num_layers, max_tokens, layout.bytes_per_token_layer)
        return Loading([SequenceKv(loaded, loaded.new_empty(shape)) for _ in range(num_samples)])

    def step(self, sequences: Sequence[tuple[SequenceKv, int]]) -> StepKv:
        return StepKv(sequences)

    def copy_out(self, kv: SequenceKv, first: int, slot: int) -> None:
        self._segment.full_block(slot)[:] = kv.span(first, first + self._layout.block_tokens).numpy()

    def free(self, kv: SequenceKv) -> None:
        """Its arrays go with it."""
