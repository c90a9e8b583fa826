"""Sealed blocks: a header with the block's key and one checksum per Layer Block.

Every read verifies that the bytes are intact *and* that they are the block that was asked for. The layout of a sealed
block equals that of a pool slot: header pages, then the Full Block, then padding to a whole page.
"""

import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
import xxhash

from dualpath_ray.base.errors import CorruptBlockError
from dualpath_ray.kv.keys import KEY_BYTES
from dualpath_ray.kv.layout import HEADER_FIXED_BYTES, KvLayout

_MAGIC = b"DPKVBLK1"
_FIXED = struct.Struct(f"<8sIIIq{KEY_BYTES}s{KEY_BYTES}s")  # magic, layers, tokens, bytes, weights version, key, parent
assert _FIXED.size == HEADER_FIXED_BYTES


def header_size(num_layers: int) -> int:
    """Bytes of the header: the fixed part, a checksum per layer, and a checksum of the header itself."""
    return _FIXED.size + 8 * num_layers + 8


@dataclass(frozen=True, slots=True)
class SealedHeader:
    """What a stored block says of itself; enough to rebuild the index after a crash."""

    layout: KvLayout
    weights_version: int
    key: bytes
    parent: bytes


def _checksums(slot: np.ndarray, layout: KvLayout) -> list[int]:
    data, start, size = slot.data, layout.header_bytes, layout.layer_block_bytes
    ends = range(start + size, start + size * layout.num_layers + 1, size)
    return [xxhash.xxh3_64_intdigest(data[end - size : end]) for end in ends]


@cache
def _sums(num_layers: int) -> struct.Struct:
    return struct.Struct(f"<{num_layers}Q")


def seal(slot: np.ndarray, header: SealedHeader) -> None:
    """Write the header of the Full Block that stands in ``slot`` (uint8 [slot_bytes]) and clear its padding."""
    layout = header.layout
    fixed = _FIXED.pack(_MAGIC, *layout.shape, header.weights_version, header.key, header.parent)
    body = fixed + _sums(layout.num_layers).pack(*_checksums(slot, layout))
    raw = body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little")
    slot[: len(raw)] = np.frombuffer(raw, np.uint8)
    slot[len(raw) : layout.header_bytes] = 0
    slot[layout.header_bytes + layout.full_block_bytes :] = 0


def read_header(raw: bytes | np.ndarray, name: str) -> SealedHeader:
    """Parse and check a header.

    Args: raw: at least the header pages of a sealed block; name: what to call the block in the error.
    Raises: CorruptBlockError when it is no intact header.
    """
    data = bytes(raw[: _FIXED.size])
    if len(data) < _FIXED.size or not data.startswith(_MAGIC):
        raise CorruptBlockError(name, "no block header")
    _, layers, tokens, per_token, version, key, parent = _FIXED.unpack(data)
    end = header_size(layers)
    if not 0 < layers < 65536 or len(raw) < end:
        raise CorruptBlockError(name, "header cut short")
    body = bytes(raw[: end - 8])
    if xxhash.xxh3_64_intdigest(body) != int.from_bytes(bytes(raw[end - 8 : end]), "little"):
        raise CorruptBlockError(name, "header checksum differs")
    return SealedHeader(KvLayout(layers, tokens, per_token), version, key, parent)


def verify(slot: np.ndarray, key: bytes, layout: KvLayout) -> None:
    """Prove that ``slot`` (uint8 [slot_bytes]) holds the intact block ``key``.

    Raises: CorruptBlockError naming what differs: header, layout, key or one layer's checksum.
    """
    name = key.hex()[:16]
    header = read_header(slot[: layout.header_bytes], name)
    if header.layout != layout:
        raise CorruptBlockError(name, f"layout is {header.layout.shape}, not {layout.shape}")
    if header.key != key:
        raise CorruptBlockError(name, f"it is block {header.key.hex()[:16]}")
    stored = _sums(layout.num_layers).unpack_from(slot.data, _FIXED.size)
    for layer, (was, now) in enumerate(zip(stored, _checksums(slot, layout), strict=True)):
        if was != now:
            raise CorruptBlockError(name, f"checksum of layer {layer} differs")
