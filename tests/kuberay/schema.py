"""Custom resource definitions as strict schemas: a field that a definition does not name is an error.

Rules in CEL (``x-kubernetes-validations``) are not evaluated; the two that matter here are about updates.
"""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.ray.nodes import ROOT

DEFINITIONS = ROOT.parent / "shared" / "kuberay"  # of KubeRay v1.7.0
WHY_NOT = None if DEFINITIONS.is_dir() else "the founders' folder ../shared/kuberay is not here"
KINDS = {"RayCluster": "ray.io_rayclusters.yaml", "RayJob": "ray.io_rayjobs.yaml"}


def closed(schema: Any) -> Any:
    """The same schema, in which an object may have no fields but those named."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        out["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            out["additionalProperties"] = False
    return out


@cache
def _validator(kind: str, version: str) -> jsonschema.Draft202012Validator:
    text = Path(DEFINITIONS, KINDS[kind]).read_text()
    definition = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (found,) = (each for each in definition["spec"]["versions"] if each["name"] == version)
    return jsonschema.Draft202012Validator(closed(found["schema"]["openAPIV3Schema"]))


def problems(resource: dict[str, Any]) -> list[str]:
    """What its definition does not allow in a RayCluster or RayJob, with the path of each."""
    group, _, version = resource["apiVersion"].partition("/")
    assert group == "ray.io"
    errors = _validator(resource["kind"], version).iter_errors(resource)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


# The Prometheus operator's definitions are not here: the fields of its API that we use, and no others.
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_RELABELING = {
    "type": "object",
    "properties": {"sourceLabels": {"type": "array", "items": {"type": "string"}}, "targetLabel": {"type": "string"}},
    "required": ["sourceLabels", "targetLabel"],
}
POD_MONITOR = closed(
    {
        "type": "object",
        "properties": {
            "apiVersion": {"const": "monitoring.coreos.com/v1"},
            "kind": {"const": "PodMonitor"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {
                "type": "object",
                "properties": {
                    "selector": {"type": "object", "properties": {"matchLabels": _STRINGS}},
                    "podMetricsEndpoints": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "port": {"type": "string"},
                                "interval": {"type": "string", "pattern": r"^[0-9]+s$"},
                                "relabelings": {"type": "array", "items": _RELABELING},
                            },
                            "required": ["port"],
                        },
                    },
                },
                "required": ["selector", "podMetricsEndpoints"],
            },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
    }
)
