"""Buffers in HBM that layers take in turn: the first layers of a batch take those that the last ones of the batch before give."""

from collections import deque

import torch

from dualpath_ray.engine.meter import KvMeter


class LayerRing:
    """``count`` buffers. Each has room for the largest layer that it ever held."""

    def __init__(self, count: int, row_bytes: int, stream: torch.cuda.Stream, meter: KvMeter) -> None:
        """Args: stream: of the copies that fill the buffers; their memory is its own, so no other work gets it too early."""
        self._row_bytes, self._stream, self._meter = row_bytes, stream, meter
        self._free: deque[tuple[torch.Tensor, tuple[torch.cuda.Event, ...]]] = deque()
        self._count, self._taken = count, deque[torch.Tensor]()
        self.reset()

    def reset(self) -> None:
        """Nobody uses a buffer any more."""
        self._meter.add(-sum(buffer.nbytes for buffer in (*self._taken, *(b for b, _ in self._free))))
        self._taken.clear()
        self._free = deque((self._new(0), ()) for _ in range(self._count))

    def _new(self, rows: int) -> torch.Tensor:
        # Buffers outlive the forward in which they are made, and are filled outside of forwards too.
        with torch.inference_mode(False), torch.cuda.stream(self._stream):
            made = torch.empty((rows, self._row_bytes), dtype=torch.uint8, device="cuda")
        self._meter.add(made.nbytes)
        return made

    def take(self, rows: int) -> torch.Tensor | None:
        """The buffer given back first, uint8 [rows, row_bytes], for work on the ring's stream. None: each is in use."""
        if not self._free:
            return None
        buffer, after = self._free.popleft()
        for event in after:
            self._stream.wait_event(event)
        if len(buffer) < rows:
            self._meter.add(-buffer.nbytes)
            del buffer
            buffer = self._new(rows)
        self._taken.append(buffer)
        return buffer[:rows]

    def give(self, *after: torch.cuda.Event) -> None:
        """The buffer taken first may be filled again after these events."""
        self._free.append((self._taken.popleft(), after))
