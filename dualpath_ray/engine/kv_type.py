"""The type in which KV is stored beside the one in which the model computes."""

from dataclasses import dataclass

import torch

TORCH_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float8_e4m3": torch.float8_e4m3fn}


@dataclass(frozen=True, slots=True)
class KvType:
    """Attention reads what is stored, of new tokens too: a token's KV is the same wherever it was computed."""

    stored: torch.dtype
    computed: torch.dtype

    @property
    def converts(self) -> bool:
        """Whether what is stored has to be converted before attention."""
        return self.stored is not self.computed

    @property
    def memory(self) -> torch.dtype:
        """As which rows are indexed and copied: what torch cannot do with 8-bit floats, it does with bytes."""
        return torch.uint8 if self.stored.itemsize == 1 else self.stored

    def pack(self, values: torch.Tensor) -> torch.Tensor:
        """Computed values as they are stored, of the same shape; beyond the type's range, its largest value."""
        if not self.converts:
            return values
        largest = torch.finfo(self.stored).max
        return values.clamp(-largest, largest).to(self.stored).view(self.memory)

    def unpack(self, stored: torch.Tensor) -> torch.Tensor:
        """Stored values as the model computes with them; a view where nothing has to be converted."""
        return stored.view(self.stored).to(self.computed)

    def rounded(self, values: torch.Tensor) -> torch.Tensor:
        """What storing makes of computed values."""
        return self.unpack(self.pack(values))
