"""Reading a configuration file, changing values on the command line, and saying where each value came from."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.yaml_file import problems, read_mapping
from dualpath_ray.config.cluster import ClusterConfig


def load_cluster(path: Path, overrides: dict[str, Any] | None = None) -> ClusterConfig:
    """Read a YAML file.

    Args:   overrides: dotted key -> value, e.g. ``{"scheduler.read_path": "prefill_only"}``; None values are skipped.
    Raises: ConfigError in one sentence that names the file and the key.
    """
    return parse_cluster(read_yaml(path), str(path), overrides)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file. Raises: ConfigError naming the file when there is none."""
    return read_mapping(path, "name a file such as cluster_configs/laptop_1p1d.yaml", "prefill_nodes: 1")


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
        found = problems(error, "cluster", "`dualpath config show` lists all keys")
        raise ConfigError(f"{source}: {found}") from error


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
