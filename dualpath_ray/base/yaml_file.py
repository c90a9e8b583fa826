"""YAML files of keys and values, and what is wrong with one in a single sentence that names file and key."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dualpath_ray.base.errors import ConfigError


def read_mapping(path: Path, instead: str, example: str) -> dict[str, Any]:
    """The mapping in a file.

    Args:   instead: what to do when the file cannot be read; example: a line that such a file could hold.
    Raises: ConfigError naming the file when there is no mapping in it.
    """
    try:
        data = yaml.load(path.read_text(), _OnceLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; {instead}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values such as '{example}'")
    return data


def problems(error: ValidationError, whole: str, all_keys: str) -> str:
    """All that pydantic found, as one sentence.

    Args: whole: what the values are together, for errors of no single key; all_keys: where to find the keys there are.
    """
    return "; ".join(_problem(found, whole, all_keys) for found in error.errors())


def keys_are(keys: Iterable[str]) -> str:
    """For ``all_keys`` of a small file: its keys themselves."""
    return f"the keys are {', '.join(keys)}"


def _problem(error: Any, whole: str, all_keys: str) -> str:
    key = ".".join(map(str, error["loc"])) or whole
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key}: there is no such key; {all_keys}"
    if error["type"] in ("missing", "missing_argument"):
        return f"{key}: this key is required"
    return text if error["loc"] == () else f"{key}: {text}"


class _OnceLoader(yaml.SafeLoader):
    """YAML itself takes the last of two equal keys without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            before = lines.setdefault((key.tag, key.value), line)
            if before != line:
                raise yaml.YAMLError(f"the key {key.value} is there twice, on line {before} and on line {line}")
        return node
