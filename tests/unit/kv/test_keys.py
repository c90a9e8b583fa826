"""Block keys: equal exactly when everything that must agree does."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.kv.keys import KEY_BYTES, ROOT, KeyScope, block_keys, hit_blocks

SCOPE = KeyScope("default", "model", 0, "3x4x8", "float32")
SALT = SCOPE.salt()
token_lists = st.lists(st.integers(0, 2**31 - 1), max_size=40)


@given(token_lists, st.integers(1, 9))
def test_one_key_per_whole_block(tokens, size):
    keys = block_keys(np.array(tokens, np.int64), size, SALT)
    assert len(keys) == len(tokens) // size == len(set(keys))
    assert all(len(key) == KEY_BYTES for key in keys)


@given(token_lists, token_lists, st.integers(1, 5))
def test_keys_are_equal_as_far_as_the_prefixes_are(one, other, size):
    a, b = (block_keys(np.array(t, np.int64), size, SALT) for t in (one, other))
    for block, (left, right) in enumerate(zip(a, b, strict=False)):
        end = (block + 1) * size
        assert (left == right) == (one[:end] == other[:end])


@given(token_lists, st.integers(1, 5), st.data())
def test_keys_may_be_continued_from_a_parent(tokens, size, data):
    """A decode engine names each block as it fills."""
    whole = block_keys(np.array(tokens), size, SALT)
    first = data.draw(st.integers(0, len(whole)))
    parent = whole[first - 1] if first else ROOT
    assert block_keys(np.array(tokens), size, SALT, parent, first) == whole[first:]


@pytest.mark.parametrize("field", [f.name for f in fields(KeyScope)])
def test_two_scopes_share_nothing(field):
    other = replace(SCOPE, **{field: 1 if field == "weights_version" else "another"})
    tokens = np.arange(12)
    assert not set(block_keys(tokens, 4, SALT)) & set(block_keys(tokens, 4, other.salt()))


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_no_two_scopes_concatenate_to_one(tenant, model, other_tenant, other_model):
    one = replace(SCOPE, tenant=tenant, model=model)
    other = replace(SCOPE, tenant=other_tenant, model=other_model)
    assert (one.salt() == other.salt()) == (one == other)


@given(st.lists(st.booleans(), max_size=20), st.integers(1, 100), st.integers(1, 9))
def test_the_hit_is_the_first_run_and_leaves_a_token_to_compute(present, prompt_tokens, size):
    hit = hit_blocks(present, prompt_tokens, size)
    assert all(present[:hit])
    assert hit * size < prompt_tokens
    longer = hit + 1
    assert longer > len(present) or not present[hit] or longer * size >= prompt_tokens
