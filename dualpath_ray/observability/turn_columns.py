"""Millions of turns as columns of numbers: a ``TurnRecord`` each would not fit into memory. They are made when asked for."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np

from dualpath_ray.observability.run_record import TurnRecord

_TIMES = (
    "submit_s",
    "assigned_s",
    "source_ready_s",
    "prefill_start_s",
    "prefill_end_s",
    "prompt_complete_s",
    "loaded_s",
    "finished_s",
    "read_queued_s",
    "read_s",
    "second_token_s",
)
_COUNTS = ("agent", "turn", "prompt_tokens", "append_tokens", "hit_tokens", "generated_tokens", "num_chunks")
_ENGINES = ("prefill_engine", "decode_engine")
_BYTES = ("cnic_in_bytes", "cnic_out_bytes")
MOST_REASONS = 400_000  # turns beyond which the reasons of the read side are not kept: each is a text of its own
_PAGE = 65_536
STORED = ("read_path", *_TIMES, *_COUNTS, *_ENGINES, *_BYTES)


@dataclass(frozen=True, slots=True)
class TurnNames:
    """What the numbers in the columns stand for, and the sizes that bytes follow from."""

    trajectory: Callable[[int], str]  # of an agent
    engines: Sequence[str]
    block_tokens: int
    sealed_bytes: int
    full_block_bytes: int
    token_bytes: int
    charged: bool  # the oracle moves nothing


class TurnColumns(Sequence[TurnRecord]):
    """A sequence of turns. ``append`` takes the values of ``STORED`` in order."""

    def __init__(self, names: TurnNames) -> None:
        self._names = names
        self._columns: dict[str, Any] = {"read_path": array("b")}
        self._columns |= {name: array("d") for name in _TIMES}
        self._columns |= {name: array("i") for name in (*_COUNTS, *_ENGINES)}
        self._columns |= {name: array("q") for name in _BYTES}
        self._appends = [self._columns[name].append for name in STORED]
        self._reasons: list[str] | None = []

    def append(self, values: Sequence[float], reason: str) -> None:
        """Args: values: of ``STORED``; ``read_path`` is 0 for PE and 1 for DE, an engine its place in ``names``."""
        for append, value in zip(self._appends, values, strict=True):
            append(value)
        if self._reasons is not None:
            self._reasons.append(reason)
            if len(self._reasons) > MOST_REASONS:
                self._reasons = None

    def __len__(self) -> int:
        return len(self._columns["turn"])

    def column(self, name: str) -> np.ndarray:
        """A numeric field of ``TurnRecord``, [turns]. Raises: KeyError when it is text."""
        names = self._names
        if name in self._columns:
            return np.frombuffer(self._columns[name], self._columns[name].typecode)
        if name == "miss_tokens":
            return self.column("prompt_tokens") - self.column("hit_tokens")
        if name == "loaded_tokens":
            return self.column("hit_tokens")
        if name == "recomputed_tokens":
            return np.zeros(len(self), np.int32)
        if name == "ttft_s":
            return self.column("prefill_end_s") - self.column("submit_s")
        if name == "ttst_s":
            second = self.column("second_token_s")
            return np.where(second > 0, second - self.column("prefill_end_s"), 0.0)
        if name == "tpot_s":
            gaps = self.column("generated_tokens") - 1
            took = self.column("finished_s") - self.column("prefill_end_s")
            return np.where(gaps > 0, took / np.maximum(gaps, 1), 0.0)
        if name == "snic_read_bytes":
            return (
                names.charged * (self.column("hit_tokens").astype(np.int64) // names.block_tokens) * names.sealed_bytes
            )
        if name == "snic_write_bytes":
            return names.charged * (self._blocks_at_end() - self._blocks("hit_tokens")) * names.sealed_bytes
        if name == "h2d_bytes":
            prompt = self.column("prompt_tokens").astype(np.int64)
            again = np.where(self.column("read_path") == 0, self.column("num_chunks"), 0)
            staged = (
                self.column("cnic_in_bytes") + again * self.column("hit_tokens").astype(np.int64) * names.token_bytes
            )
            return staged + prompt * names.token_bytes
        if name == "d2h_bytes":
            filled = self._blocks_at_end() - self._blocks("prompt_tokens")
            return self.column("miss_tokens").astype(np.int64) * names.token_bytes + filled * names.full_block_bytes
        raise KeyError(name)

    def text(self, name: str) -> list[str]:
        """A text field of ``TurnRecord``, [turns]."""
        names = self._names
        if name == "read_path":
            return ["de" if path else "pe" for path in self._columns["read_path"]]
        if name == "reason":
            return self._reasons if self._reasons is not None else [""] * len(self)
        if name in _ENGINES:
            return [names.engines[i] for i in self._columns[name]]
        trajectories = [names.trajectory(agent) for agent in self._columns["agent"]]
        if name == "trajectory_id":
            return trajectories
        assert name == "request_id"
        return [f"{t}/{turn}" for t, turn in zip(trajectories, self._columns["turn"], strict=True)]

    @overload
    def __getitem__(self, index: int) -> TurnRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[TurnRecord]: ...
    def __getitem__(self, index: int | slice) -> TurnRecord | list[TurnRecord]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._rows(range(len(self))[index], 1)[0]

    def __iter__(self) -> Iterator[TurnRecord]:
        for start in range(0, len(self), _PAGE):
            yield from self._rows(start, _PAGE)

    def _rows(self, start: int, count: int) -> list[TurnRecord]:
        page = TurnColumns(self._names)
        page._columns = {name: values[start : start + count] for name, values in self._columns.items()}
        page._reasons = self._reasons[start : start + count] if self._reasons is not None else None
        columns = [page.text(f.name) if f.type is str else page.column(f.name).tolist() for f in fields(TurnRecord)]
        return [TurnRecord(*row) for row in zip(*columns, strict=True)]

    def _blocks(self, name: str) -> np.ndarray:
        return self.column(name).astype(np.int64) // self._names.block_tokens

    def _blocks_at_end(self) -> np.ndarray:
        """Whole blocks of the context after the turn; its last token has no KV yet."""
        end = self.column("prompt_tokens").astype(np.int64) + self.column("generated_tokens") - 1
        return end // self._names.block_tokens


def column(turns: Sequence[TurnRecord], name: str) -> np.ndarray:
    """A numeric field of every turn, [turns]."""
    if isinstance(turns, TurnColumns):
        return turns.column(name)
    return np.array([getattr(turn, name) for turn in turns])


def text_column(turns: Sequence[TurnRecord], name: str) -> list[str]:
    """A text field of every turn, [turns]."""
    return turns.text(name) if isinstance(turns, TurnColumns) else [getattr(turn, name) for turn in turns]
