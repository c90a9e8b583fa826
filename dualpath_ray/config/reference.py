"""The reference of all configuration keys, made from the models. Pure."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dualpath_ray.base.units import format_bytes
from dualpath_ray.config.cluster import ClusterConfig

_HEAD = """# Configuration

Every key of a system's file, made from the models that check it (`dualpath config reference`). A file needs only
`prefill_nodes`, `decode_nodes` and `model`. `dualpath config show FILE` lists what a file amounts to, and where each value
came from. Sizes may be written `512 MiB`, rates `6 MB/s` or `400 Gbps`.
"""


def reference() -> str:
    """Markdown: a table for each section."""
    return "\n".join([_HEAD, *_section("", ClusterConfig, "The system")])


def _section(prefix: str, model: type[BaseModel], title: str) -> list[str]:
    lines = [f"## {title}", "", "| key | value | default | meaning |", "|---|---|---|---|"]
    nested: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested.append((name, kind))
            continue
        key = f"{prefix}{name}"
        lines.append(f"| `{key}` | {_values(name, field)} | {_default(name, field)} | {field.description or ''} |")
    lines.append("")
    for name, kind in nested:
        about = (kind.__doc__ or "").strip().splitlines()[0]
        lines += _section(f"{prefix}{name}.", kind, f"{prefix}{name}: {about}")
    return lines


def _values(name: str, field: FieldInfo) -> str:
    """What may be written there."""
    kind, words = field.annotation, ""
    if get_origin(kind) is not Literal:
        words = "rate" if name.endswith("_bps") else "size" if name.endswith("_bytes") else ""
    return (words or _type(kind)) + _bounds([*field.metadata, *_metadata(kind)])


def _type(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return ", ".join(_type(arg) for arg in get_args(kind) if arg is not type(None))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if origin is list:
        return f"list of {_type(get_args(kind)[0])}"
    if origin is dict:
        return "mapping"
    if hasattr(kind, "__metadata__"):
        return _type(kind.__origin__)
    return {"int": "number", "float": "number", "str": "text", "bool": "`true`, `false`"}.get(
        kind.__name__, kind.__name__
    )


def _metadata(kind: Any) -> list[Any]:
    """Of a type that may be unset."""
    found = list(getattr(kind, "__metadata__", ()))
    for arg in get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ():
        found += _metadata(arg)
    return found


def _bounds(metadata: list[Any]) -> str:
    words = []
    for each in metadata:
        if isinstance(each, Gt):
            words.append(f"above {each.gt}")
        elif isinstance(each, Ge):
            words.append(f"from {each.ge}")
        elif isinstance(each, Le):
            words.append(f"to {each.le}")
    return f", {' '.join(dict.fromkeys(words))}" if words else ""


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if name.endswith("_bytes"):
        return format_bytes(value)
    if isinstance(value, list):
        return ", ".join(f"`{each}`" for each in value) or "none"
    if isinstance(value, dict):
        return "none" if not value else ", ".join(f"`{key}`: {each}" for key, each in value.items())
    return f"`{value}`"
