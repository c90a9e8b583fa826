"""Reading a configuration file, changing values on the command line, and saying where each value came from."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.cluster import ClusterConfig


def load_cluster(path: Path, overrides: dict[str, Any] | None = None) -> ClusterConfig:
    """Read a YAML file.

    Args:   overrides: dotted key -> value, e.g. ``{"scheduler.read_path": "prefill_only"}``; None values are skipped.
    Raises: ConfigError in one sentence that names the file and the key.
    """
    return parse_cluster(read_yaml(path), str(path), overrides)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises: ConfigError naming the file when there is none."""
    try:
        data = yaml.load(path.read_text(), _OnceLoader)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror or error}; name a file such as cluster_configs/laptop_1p1d.yaml"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values such as 'prefill_nodes: 1'")
    return data


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


def parse_cluster(data: dict[str, Any], source: str, overrides: dict[str, Any] | None = None) -> ClusterConfig:
    """Check a mapping; ``source`` names it in errors."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    for dotted, value in (overrides or {}).items():
        if value is None:
            continue
        *sections, key = dotted.split(".")
        target = merged
        for section in sections:
            target = target.setdefault(section, {})
        if isinstance(target, dict):  # else the check below says what is wrong with the section
            target[key] = value
    try:
        return ClusterConfig.model_validate(merged)
    except ValidationError as error:
        problems = "; ".join(_problem(e) for e in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def _problem(error: Any) -> str:
    key = ".".join(map(str, error["loc"])) or "cluster"
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key; `dualpath config show` lists all keys"
    if error["type"] == "missing":
        return f"{key}: this key is required"
    return text if error["loc"] == () else f"{key}: {text}"


def effective(config: ClusterConfig, given: dict[str, Any], source: str) -> list[tuple[str, Any, str]]:
    """(dotted key, value, where it came from) of every key, in the order of the model."""
    rows: list[tuple[str, Any, str]] = []

    def walk(model: BaseModel, raw: Any, prefix: str) -> None:
        for name in type(model).model_fields:
            value = getattr(model, name)
            given_here = isinstance(raw, dict) and name in raw
            if isinstance(value, BaseModel):
                walk(value, raw[name] if given_here else {}, f"{prefix}{name}.")
            else:
                rows.append((f"{prefix}{name}", value, source if given_here else "default"))

    walk(config, given, "")
    return rows
