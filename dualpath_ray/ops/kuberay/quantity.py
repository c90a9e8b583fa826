"""Quantities as Kubernetes writes them: ``500m``, ``4Gi``, ``2G``, ``8``."""

import re
from math import ceil

from dualpath_ray.base.errors import ConfigError

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|[MGTPE]|[KMGTPE]i)?")
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, **{letter: 1e3**power for power, letter in enumerate("MGTPE", 2)}}
_SUFFIXES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def parse_quantity(text: str | int, key: str) -> float:
    """Its value in units. Raises: ConfigError naming ``key`` when it is none."""
    match = _QUANTITY.fullmatch(str(text))
    if match is None:
        raise ConfigError(f"{key}: {text!r} is no quantity of Kubernetes; write for example 500m, 8 or 4Gi")
    return float(match.group(1)) * _SUFFIXES[match.group(2) or ""]


def format_quantity(count: float) -> str:
    """The least quantity of whole quarters of a GiB that holds so many bytes: ``1.1 GiB -> 1280Mi``, ``2 GiB -> 2Gi``."""
    quarters = ceil(count / 2**28)
    return f"{quarters // 4}Gi" if quarters % 4 == 0 else f"{quarters * 256}Mi"
