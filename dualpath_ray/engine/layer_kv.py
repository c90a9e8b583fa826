"""Where a forward finds cached KV and leaves new KV; asked in layer order, from the compute thread.

A row is one token's KV of one layer, uint8 [bytes_per_token_layer].
"""

from typing import Protocol

import torch


class LayerKv(Protocol):
    """Of a CPU engine."""

    def begin_layer(self, layer: int) -> list[torch.Tensor]:
        """Per request uint8 [cached + new tokens, bytes_per_token_layer], the cached rows filled in. May wait."""
        ...

    def end_layer(self, layer: int) -> None:
        """The new rows of this layer are filled in too."""
        ...


class HbmKv(Protocol):
    """Of a GPU engine: the rows of all requests are ranges of one tensor. Calls issue work on the current stream."""

    first_rows: list[int]  # of each request's first token, the same in every layer

    def begin_layer(self, layer: int) -> torch.Tensor:
        """uint8 [rows, bytes_per_token_layer], the cached rows filled in."""
        ...

    def end_layer(self, layer: int) -> None:
        """The new rows of this layer are filled in too."""
        ...
