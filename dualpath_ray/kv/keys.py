"""Block keys: a chained hash over everything that must agree before KV may be shared (the trie of appendix A.5)."""

import hashlib
from dataclasses import dataclass

import numpy as np

KEY_BYTES = 32
ROOT = bytes(KEY_BYTES)  # parent of a first block


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What enters every key beside the tokens: blocks of two scopes never match."""

    tenant: str
    model: str  # fingerprint of architecture and weights
    weights_version: int
    layout: str  # num_layers x block_tokens x bytes
    dtype: str

    def salt(self) -> bytes:
        """Digest of the scope; lengths are hashed too, so no two scopes concatenate to the same bytes."""
        digest = hashlib.sha256(b"dualpath-block-key-v1")
        for part in (self.tenant, self.model, str(self.weights_version), self.layout, self.dtype):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.digest()


def block_keys(
    token_ids: np.ndarray, block_tokens: int, salt: bytes, parent: bytes = ROOT, first_block: int = 0
) -> list[bytes]:
    """Keys of the whole blocks of ``token_ids`` from block ``first_block`` on, each chained to the one before.

    Args: token_ids: integers [num_tokens] from the first token of the context; parent: key of block ``first_block - 1``.
    Returns: one 32-byte key per whole block; a partial last block has none.
    """
    tokens = np.ascontiguousarray(token_ids, dtype="<i4")
    keys: list[bytes] = []
    for block in range(first_block, len(tokens) // block_tokens):
        chunk = tokens[block * block_tokens : (block + 1) * block_tokens].tobytes()
        parent = hashlib.sha256(salt + parent + chunk).digest()
        keys.append(parent)
    return keys


def hit_blocks(present: list[bool], prompt_tokens: int, block_tokens: int) -> int:
    """Blocks of the hit: the first run of present ones, at most all but one token of the prompt.

    One token at least must be computed, or there is no logit to sample from.
    """
    run = next((i for i, here in enumerate(present) if not here), len(present))
    return min(run, (prompt_tokens - 1) // block_tokens)
