"""Token ids for traces that record lengths or block hashes but no text."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from dualpath_ray.workload.trajectory import TokenIds

FIRST_ORDINARY_ID = 16  # tokenizers keep their special tokens (padding, end of text) below or outside of this range


def stable_seed(*parts: object) -> int:
    """A 64-bit seed that is the same in every process (``hash()`` of a str is not)."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def ids_at(salt: int, positions: NDArray[np.uint64], vocab_size: int) -> TokenIds:
    """The id at each position of an endless random sequence: SplitMix64 in counter mode.

    Args:    positions: uint64 [tokens].
    Returns: int32 [tokens], each in [FIRST_ORDINARY_ID, vocab_size).
    """
    x = (positions + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    ordinary = np.uint64(vocab_size - FIRST_ORDINARY_ID)
    return (x % ordinary).astype(np.int32) + np.int32(FIRST_ORDINARY_ID)


def random_ids(salt: int, num_tokens: int, vocab_size: int) -> TokenIds:
    """``num_tokens`` random ordinary ids, int32; the same for the same salt."""
    return ids_at(salt, np.arange(num_tokens, dtype=np.uint64), vocab_size)


def block_ids(salt: int, block_hashes: NDArray[np.uint64], block_tokens: int, vocab_size: int) -> TokenIds:
    """The tokens of a run of hashed blocks: equal hashes under one salt give equal tokens, so prefixes stay shared.

    Args:    block_hashes: uint64 [blocks].
    Returns: int32 [blocks * block_tokens].
    """
    offsets = np.arange(block_tokens, dtype=np.uint64)
    positions = block_hashes[:, None] * np.uint64(block_tokens) + offsets
    return ids_at(salt, positions.reshape(-1), vocab_size)
