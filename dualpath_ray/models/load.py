"""A model for planning, by name or from a YAML file that holds the fields of ``ModelSpec``."""

from dataclasses import fields
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.yaml_file import keys_are, problems, read_mapping
from dualpath_ray.models.known import known_model
from dualpath_ray.models.spec import ModelSpec


def is_model_file(name_or_path: str) -> bool:
    """Whether this names a YAML file and no model."""
    return Path(name_or_path).suffix in (".yaml", ".yml")


def load_model(name_or_path: str) -> ModelSpec:
    """The shape of a model.

    Raises: ConfigError in one sentence: no such name, or what is wrong in the file, naming file and key.
    """
    if not is_model_file(name_or_path):
        return known_model(name_or_path)
    data = read_mapping(Path(name_or_path), "name a YAML file with the shape of a model", "num_layers: 30")
    try:
        return _adapter().validate_python(data)
    except ValidationError as error:
        found = problems(error, "model", keys_are(field.name for field in fields(ModelSpec)))
        raise ConfigError(f"{name_or_path}: {found}") from error


@cache
def _adapter() -> TypeAdapter[ModelSpec]:
    return TypeAdapter(ModelSpec)
