"""A decode step as a CUDA graph: hundreds of kernels in one launch, where launching one by one takes longer than running.

A graph is of one batch size, of a longest context, by which attention is split among the multiprocessors, and of the places
of its inputs. There is one for 1, 2, 4, ... sequences and as many tokens of the longest, recorded when first needed;
sequences that are missing to its size compute on a row that is nobody's. That one step takes some tenths of a second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dualpath_ray.engine.hbm.cache import HbmCache, at_least
from dualpath_ray.engine.hbm.sequences import HbmStepKv
from dualpath_ray.engine.hbm.upload import Inputs


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    inputs: Inputs  # as ``_arrays`` makes them
    logits: torch.Tensor  # float32 [size, vocab_size]
    used: tuple[HbmCache, torch.Tensor]  # what it reads besides: its memory must not become another's


class NotRecordableError(Exception):
    """The model waits for the device in the middle of its forward."""


class DecodeGraphs:
    """Of one model and one memory."""

    def __init__(
        self,
        run: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, HbmCache, dict[str, Any]], torch.Tensor],
        make_cache: Callable[[HbmStepKv, list[tuple[int, int]], Sequence[int]], HbmCache],
    ) -> None:
        """Args: run: ids, positions, indices of the logits wanted, cache, masks -> logits on the device."""
        self._run, self._make_cache = run, make_cache
        self._memory: int | None = None
        self._recorded: dict[tuple[int, int], _Recorded] = {}  # by sequences and longest context

    def step(self, token_ids: Sequence[int], starts: Sequence[int], kv: HbmStepKv) -> torch.Tensor:
        """As ``ModelAdapter.decode``. Raises: NotRecordableError, before anything is computed."""
        assert self._memory in (None, kv.address), "graphs hold the address of the memory that they were recorded on"
        self._memory = kv.address
        count = len(token_ids)
        size, longest = at_least(count), at_least(max(starts) + 1)
        missing = size - count
        tokens, positions = [*token_ids, *[0] * missing], [*starts, *[0] * missing]
        arrays = _arrays(tokens, positions, [*kv.first_rows, *[kv.num_rows - 1] * missing])
        if (size, longest) not in self._recorded:
            self._recorded[size, longest] = self._record(size, longest, kv, arrays)
        recorded = self._recorded[size, longest]
        recorded.inputs.fill(*arrays)
        recorded.graph.replay()
        return recorded.logits[:count].cpu()

    def _record(self, size: int, longest: int, kv: HbmStepKv, arrays: Sequence[torch.Tensor]) -> _Recorded:
        inputs = Inputs(*arrays)
        ids, positions, new_rows, key_counts, key_starts = inputs.tensors
        cache = self._make_cache(kv.of(range(size)), [(i, i + 1) for i in range(size)], [0] * size)
        cache.decode_from(new_rows, key_counts, key_starts, longest)
        last = torch.arange(size, device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # Libraries make their workspaces in a first run, which writes what the next one will write.
        with torch.cuda.stream(stream):
            self._run(ids, positions, last, cache, {})
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool = next((other.graph.pool() for other in self._recorded.values()), None)  # none runs beside another
        try:
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                logits = self._run(ids, positions, last, cache, {})
        except RuntimeError as error:
            raise NotRecordableError(str(error)) from error
        return _Recorded(graph, inputs, logits, (cache, last))


def _arrays(tokens: Sequence[int], positions: Sequence[int], first_rows: Sequence[int]) -> list[torch.Tensor]:
    """Ids, positions, rows of the new tokens, numbers of keys, and where they begin: of a step."""
    first, at = torch.tensor(first_rows), torch.tensor(positions)
    starts = torch.cat([first, torch.zeros(1, dtype=torch.long)]).int()
    return [torch.tensor(tokens), at, first + at, (at + 1).int(), starts]
