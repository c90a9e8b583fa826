"""Parts of the user's own, named in a configuration as ``module:attr``."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from dualpath_ray.base.errors import ConfigError


def load_callable(spec: str, key: str, what: str, known: Sequence[str], takes: str) -> Callable[..., Any]:
    """What ``module:attr`` names.

    Args:   key: of the configuration, for errors; what: the kind of thing; known: its built-in names; takes: its arguments.
    Raises: ConfigError in one sentence when it is no such name, cannot be imported, or cannot be called.
    """
    module, _, attribute = spec.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{key}: {spec!r} is no {what}; write {', '.join(known)} or module:attr")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key}: {spec!r} cannot be imported ({error})") from error
    if not callable(found):
        raise ConfigError(f"{key}: {spec!r} is no callable that takes {takes}")
    made: Callable[..., Any] = found
    return made
