"""Messages survive the wire."""

import dataclasses
import typing

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath_ray.traffic import messages

KINDS = [k for k in vars(messages).values() if dataclasses.is_dataclass(k) and k is not messages.BatchItem]


def values(annotation):
    """A strategy for a field's type."""
    if typing.get_origin(annotation) is list:
        return st.lists(values(typing.get_args(annotation)[0]), max_size=3)
    if typing.get_origin(annotation) is dict:
        return st.dictionaries(st.text(max_size=4), values(typing.get_args(annotation)[1]), max_size=3)
    simple = {
        str: st.text(),
        bytes: st.binary(),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63),
        float: st.floats(allow_nan=False),
        float | None: st.none() | st.floats(allow_nan=False),
        typing.Any: st.none() | st.integers(-(2**40), 2**40) | st.binary() | st.text(),
    }
    return simple[annotation]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_what_is_encoded_is_decoded(kind):
    hints = typing.get_type_hints(kind)

    @given(st.builds(kind, *(values(hints[f.name]) for f in dataclasses.fields(kind))))
    def check(message):
        assert messages.decode(messages.encode(message)) == message

    check()


def test_an_unknown_message_is_named():
    with pytest.raises(ValueError, match="'Gossip' is no message"):
        messages.decode(msgpack.packb(["Gossip", 1]))
