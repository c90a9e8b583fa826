"""How two configurations differ, key by key. Pure."""

from collections.abc import Collection, Iterator
from typing import Any

from dualpath_ray.config.cluster import ClusterConfig

LIVE = ("name", "prefill_nodes", "decode_nodes")  # what `dualpath up --name` and `dualpath scale` change


def differences(there: ClusterConfig, here: ClusterConfig, but: Collection[str] = ()) -> list[str]:
    """A clause for each key that has another value, in the order of the model.

    The live page's place is none: it changes nothing of what the system computes. Args: but: keys that may differ.
    """
    theirs, ours = (dict(_flat(config.model_dump(exclude={"ui"}))) for config in (there, here))
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return [
        f"{key} is {_shown(theirs.get(key))} there and {_shown(ours.get(key))} in the file"
        for key in keys
        if theirs.get(key) != ours.get(key) and key not in but
    ]


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, dict):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
