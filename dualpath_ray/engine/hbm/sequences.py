"""KV of a GPU engine's sequences while they decode: one tensor in HBM, a contiguous range of tokens for each sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import format_bytes
from dualpath_ray.engine.hbm.pool_access import PoolAccess
from dualpath_ray.engine.hbm.ranges import Move, TokenRanges
from dualpath_ray.engine.memory import Loading


@dataclass(frozen=True, slots=True)
class SequenceKv:
    """Owner of a range of tokens. Samples of one request each have a copy of the prompt."""

    owner: int


class HbmSequences:
    """DecodeMemory of a GPU engine. ``memory``: uint8 [layers, tokens + 1, bytes_per_token_layer], the last row nobody's."""

    def __init__(self, access: PoolAccess, num_tokens: int) -> None:
        """Raises: ConfigError when HBM has no room."""
        self._access, self._layout = access, access.layout
        shape = (self._layout.num_layers, num_tokens + 1, self._layout.bytes_per_token_layer)
        try:
            self.memory = torch.empty(shape, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError as error:
            free = torch.cuda.mem_get_info()[0]
            raise ConfigError(
                f"engine.hbm_kv_bytes: the GPU has {format_bytes(free)} free, but a decode engine's KV needs "
                f"{format_bytes(num_tokens * self._layout.token_bytes)}; make it smaller"
            ) from error
        self._ranges = TokenRanges(num_tokens)
        self._in, self._out = torch.cuda.Stream(), torch.cuda.Stream()

    def load(self, slots: Sequence[int], prompt_tokens: int, max_tokens: int, num_samples: int) -> Loading:
        taken: list[SequenceKv] = []
        compute = torch.cuda.current_stream()
        for _ in range(num_samples):
            found = self._ranges.take(prompt_tokens + max_tokens)
            assert found is not None, "a request that was assigned here does not fit"
            taken.append(SequenceKv(found[0]))
            if found[1]:
                compute.wait_stream(self._in)  # what is on its way into a range is there before the range moves
                self._move(found[1])
        self._in.wait_stream(compute)  # the range may have been another's until now
        with torch.cuda.stream(self._in):
            first = self._ranges.first(taken[0].owner)
            self._copy_in(np.array(slots, np.int64), first, prompt_tokens)
            for kv in taken[1:]:
                other = self._ranges.first(kv.owner)
                self.memory[:, other : other + prompt_tokens] = self.memory[:, first : first + prompt_tokens]
            loaded = torch.cuda.Event()
            loaded.record()
        return Loading(taken, partial(self._is_loaded, loaded), partial(self._wait_loaded, loaded))

    def _is_loaded(self, loaded: torch.cuda.Event) -> bool:
        if not loaded.query():
            return False
        self._access.way.check()
        return True

    def _wait_loaded(self, loaded: torch.cuda.Event) -> None:
        loaded.synchronize()
        self._access.way.check()

    def _copy_in(self, slots: np.ndarray, first: int, prompt_tokens: int) -> None:
        """H2D of all layers; the last block may be partly filled."""
        size = self._layout.block_tokens
        whole, rest = divmod(prompt_tokens, size)
        parts = []
        if whole:
            parts.append((slots[:whole], first, self._layout.layer_block_bytes))
        if rest:
            parts.append((slots[whole : whole + 1], first + whole * size, rest * self._layout.bytes_per_token_layer))
        prepared = []
        for some, row, nbytes in parts:
            host = self._access.layer_blocks(some)[None] + self._layers(self._layout.layer_block_bytes)
            device = self._addresses(row + size * np.arange(len(some)))
            prepared.append(self._access.way.prepare(host.reshape(-1), device.reshape(-1), nbytes))
        for blocks in prepared:
            self._access.way.to_device(blocks)

    def _layers(self, stride: int) -> np.ndarray:
        """Offsets of each layer, uint64 [layers, 1]."""
        return (np.arange(self._layout.num_layers, dtype=np.uint64) * np.uint64(stride))[:, None]

    def _addresses(self, rows: np.ndarray) -> np.ndarray:
        """Of these tokens in each layer, uint64 [layers, rows]."""
        per_token = np.uint64(self._layout.bytes_per_token_layer)
        base = np.uint64(self.memory.data_ptr()) + rows.astype(np.uint64) * per_token
        return base[None] + self._layers(self.memory.stride(0))

    def _move(self, moves: Sequence[Move]) -> None:
        for move in moves:
            for layer in self.memory:  # one by one: what is set aside meanwhile stays small
                kept = layer[move.source : move.source + move.count].clone()
                layer[move.target : move.target + move.count] = kept

    def step(self, sequences: Sequence[tuple[SequenceKv, int]]) -> "HbmStepKv":
        return HbmStepKv(self.memory, [self._ranges.first(kv.owner) for kv, _ in sequences])

    def copy_out(self, kv: SequenceKv, first: int, slot: int) -> None:
        """D2H of a block of all layers."""
        row = np.array([self._ranges.first(kv.owner) + first])
        host = self._access.layer_blocks(np.array([slot])) + self._layers(self._layout.layer_block_bytes)
        self._out.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._out):
            device = self._addresses(row).reshape(-1)
            blocks = self._access.way.prepare(host.reshape(-1), device, self._layout.layer_block_bytes)
            self._access.way.to_host(blocks)
        self._out.synchronize()
        self._access.way.check()

    def free(self, kv: SequenceKv) -> None:
        self._ranges.give(kv.owner)


class HbmStepKv:
    """HbmKv of one decode step: the rows stand there already."""

    def __init__(self, memory: torch.Tensor, first_rows: list[int]) -> None:
        self._memory, self.first_rows = memory, first_rows

    @property
    def address(self) -> int:
        """Of the memory, on the device."""
        return self._memory.data_ptr()

    @property
    def num_rows(self) -> int:
        """Of a layer. The last row is nobody's."""
        return self._memory.shape[1]

    def of(self, first_rows: Sequence[int]) -> "HbmStepKv":
        """The same memory for sequences that begin at these rows."""
        return HbmStepKv(self._memory, list(first_rows))

    def begin_layer(self, layer: int) -> torch.Tensor:
        return self._memory[layer]

    def end_layer(self, layer: int) -> None:
        """Nothing moves: the new rows stay."""
