"""Layer Blocks and Full Blocks: one layout from the SSD to attention (section 4.1, appendix A.5).

A Layer Block is ``[1, block_tokens, bytes_per_token_layer]``; a Full Block is the concatenation of its Layer Blocks,
``[num_layers, block_tokens, bytes_per_token_layer]``, so a range of layers is one contiguous range of bytes. What the
bytes mean (K then V, a latent, indexer keys) only the model adapter knows.
"""

from dataclasses import dataclass

from dualpath_ray.base.errors import LayoutError
from dualpath_ray.base.units import PAGE_BYTES, align_up

HEADER_FIXED_BYTES = (
    92  # seal.py: magic, shape, weights version, key, parent key; then a checksum per layer and its own
)


@dataclass(frozen=True, slots=True)
class KvLayout:
    """Shape of the KV of one model; every process that touches a block agrees on it."""

    num_layers: int
    block_tokens: int
    bytes_per_token_layer: int

    def __post_init__(self) -> None:
        if min(self.num_layers, self.block_tokens, self.bytes_per_token_layer) < 1:
            raise LayoutError(f"every dimension of a block must be positive, not {self}")

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers."""
        return self.num_layers * self.bytes_per_token_layer

    @property
    def layer_block_bytes(self) -> int:
        return self.block_tokens * self.bytes_per_token_layer

    @property
    def full_block_bytes(self) -> int:
        return self.num_layers * self.layer_block_bytes

    @property
    def sealed_bytes(self) -> int:
        """Bytes of a stored block: one or more header pages, then the Full Block padded to whole pages (direct I/O)."""
        return self.header_bytes + align_up(self.full_block_bytes, PAGE_BYTES)

    @property
    def header_bytes(self) -> int:
        """Bytes before the Full Block in a slot and in a stored block; holds one checksum per layer."""
        return align_up(HEADER_FIXED_BYTES + 8 * self.num_layers + 8, PAGE_BYTES)

    @property
    def slot_bytes(self) -> int:
        """A pool slot holds exactly one sealed block."""
        return self.sealed_bytes

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.num_layers, self.block_tokens, self.bytes_per_token_layer)

    def layer_offset(self, layer: int) -> int:
        """Offset of a Layer Block from the start of its slot."""
        if not 0 <= layer < self.num_layers:
            raise LayoutError(f"layer {layer} of a full block of {self.num_layers} layers")
        return self.header_bytes + layer * self.layer_block_bytes

    def num_blocks(self, num_tokens: int) -> int:
        """Blocks that ``num_tokens`` tokens touch, the last perhaps partly."""
        return -(-num_tokens // self.block_tokens)
