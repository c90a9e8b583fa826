"""Lists of many small objects on their way through Ray."""

import pickle
from typing import Any, TypeVar

Item = TypeVar("Item")


class PackedList(list[Item]):
    """A list that is pickled as one string of bytes, and comes out as a plain list.

    Ray's own pickler calls a Python function for every object that it meets, which takes longer than all the rest.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (pickle.dumps(list(self), pickle.HIGHEST_PROTOCOL),)
