"""Which storage node holds a block."""

from collections.abc import Sequence


def shard_of(key: bytes, num_shards: int) -> int:
    """Shard in [0, num_shards) of a block key.

    The last bytes decide, since a store spreads its folders by the first: both stay even.
    """
    return int.from_bytes(key[-8:], "little") % num_shards


def split(keys: Sequence[bytes], num_shards: int) -> list[list[int]]:
    """Indices into ``keys`` per shard, in order; together they are every index once."""
    shards: list[list[int]] = [[] for _ in range(num_shards)]
    for index, key in enumerate(keys):
        shards[shard_of(key, num_shards)].append(index)
    return shards
