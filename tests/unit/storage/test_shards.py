import hashlib

from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.storage.shards import shard_of, split


@given(keys=st.lists(st.binary(min_size=32, max_size=32)), num_shards=st.integers(1, 9))
def test_every_key_is_on_the_one_shard_that_owns_it(keys, num_shards):
    parts = split(keys, num_shards)
    assert sorted(index for part in parts for index in part) == list(range(len(keys)))
    for shard, part in enumerate(parts):
        assert part == sorted(part)
        assert all(shard_of(keys[index], num_shards) == shard for index in part)


def test_shards_are_even():
    keys = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(4000)]
    sizes = [len(part) for part in split(keys, 4)]
    assert min(sizes) > 900
