"""The manifests of cluster_configs/kuberay as kubectl renders them, and the parts of them that tests look at."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.ray.nodes import ROOT

FOLDER = ROOT / "cluster_configs" / "kuberay"
CLUSTERS = ("cpu-demo", "h100-ib", "h100-roce")  # each an overlay with a settings.yaml, and a rollout on it
RENDERED = (*(f"overlays/{each}" for each in (*CLUSTERS, "h100-ib-gcs-ft")), *(f"rollouts/{each}" for each in CLUSTERS))
WHY_NOT = None if shutil.which("kubectl") else "kubectl is not here"
Object = dict[str, Any]


@cache
def _rendered(path: Path) -> str:
    command = ["kubectl", "kustomize", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(name: str, folder: Path = FOLDER) -> list[Object]:
    """All objects of an overlay or a rollout, freshly parsed."""
    return list(yaml.safe_load_all(_rendered(folder / name)))


def only(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = (each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"]))
    return found


def cluster_spec(objects: list[Object]) -> Object:
    """Of the RayCluster, or of the one that a RayJob makes."""
    kinds = {each["kind"]: each["spec"] for each in objects if each["kind"] in ("RayCluster", "RayJob")}
    (spec,) = kinds.values()
    found: Object = spec.get("rayClusterSpec", spec)
    return found


def groups(spec: Object) -> dict[str, Object]:
    """The head's group and the workers', by name."""
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def container(group: Object) -> Object:
    containers: list[Object] = group["template"]["spec"]["containers"]
    (found,) = containers
    return found


def pod_labels(name: str, group: Object) -> dict[str, str]:
    """As the operator puts them on the pods of a group."""
    kind = "head" if name == "head" else "worker"
    template = group["template"]["metadata"].get("labels", {})
    return {**template, **group.get("labels", {}), "ray.io/node-type": kind, "ray.io/cluster": "dualpath"}
