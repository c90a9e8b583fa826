"""An overlay's settings.yaml: the system and the sizes of its pods, and whether the second are enough for the first."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.units import format_bytes
from dualpath_ray.base.yaml_file import keys_are, problems
from dualpath_ray.config.section import Section
from dualpath_ray.ops.kuberay.needs import PodNeeds
from dualpath_ray.ops.kuberay.quantity import format_quantity, parse_quantity

Resources = dict[str, str | int]
RAY_CPUS = "CPU"  # Ray's name of it; Kubernetes writes cpu


class ResourceSettings(Section):
    """Of the Ray container. Where nothing is requested, what is limited is."""

    limits: Resources
    requests: Resources = Field(default_factory=dict)


class HeadSettings(Section):
    """The head: its Ray gives out nothing."""

    resources: ResourceSettings


class StorageSettings(Section):
    """Pods of storage nodes."""

    replicas: PositiveInt
    ray: dict[str, str]
    resources: ResourceSettings


class EngineSettings(StorageSettings):
    """Pods of prefill or of decode nodes."""

    max_replicas: NonNegativeInt = Field(alias="maxReplicas")
    shm: str


class Settings(Section):
    """All that differs between clusters. What is handed on to Kubernetes as it is, Kubernetes checks."""

    api_version: Literal["dualpath/v1"] = Field(alias="apiVersion")
    kind: Literal["Settings"]
    metadata: dict[str, Any]
    image: str
    head: HeadSettings
    prefill: EngineSettings
    decode: EngineSettings
    storage: StorageSettings
    nvme: dict[str, Any]
    models: dict[str, Any]
    engines: dict[str, Any] = Field(default_factory=dict)
    system: str

    def system_config(self, source: str) -> dict[str, Any]:
        """The keys of the system's configuration. Raises: ConfigError naming the key ``system``."""
        try:
            data = yaml.safe_load(self.system)
        except yaml.YAMLError as error:
            raise ConfigError(f"{source}: system: no valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(data, dict):
            raise ConfigError(f"{source}: system: expected keys and values such as 'prefill_nodes: 1'")
        return data


def is_settings(data: dict[str, Any]) -> bool:
    """Whether a file holds settings of a cluster, and not a system's configuration alone."""
    return "system" in data or "kind" in data


def parse_settings(data: dict[str, Any], source: Path) -> Settings:
    """Check a mapping. Raises: ConfigError in one sentence that names file and key."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        keys = [field.alias or name for name, field in Settings.model_fields.items()]
        raise ConfigError(f"{source}: {problems(error, 'settings', keys_are(keys))}") from error


def shortfalls(settings: Settings, needs: dict[str, PodNeeds], source: str) -> list[str]:
    """A sentence for each size that is too small, or would let two logical nodes share a pod.

    Raises: ConfigError naming the key of what is no quantity.
    """
    found: list[str] = []

    def holds(key: str, has: float, least: float, what: str, write: str) -> None:
        if has < least - 1e-6:
            found.append(f"{source}: {key}: {what}; write at least {write}")

    for group, need in needs.items():
        given: HeadSettings | StorageSettings = getattr(settings, group)
        at = f"{group}.resources.limits"
        limits = {name: parse_quantity(text, f"{source}: {at}.{name}") for name, text in given.resources.limits.items()}
        holds(f"{at}.cpu", limits.get("cpu", 0), need.cpus, f"a pod needs {need.cpus} CPUs", f'"{need.cpus}"')
        memory, shm = format_bytes(need.memory_bytes), format_bytes(need.shm_bytes)
        what = f"a pod needs {memory} of memory, {shm} of it in /dev/shm"
        holds(f"{at}.memory", limits.get("memory", 0), need.memory_bytes, what, format_quantity(need.memory_bytes))
        gpus = sum(count for name, count in limits.items() if name.endswith("gpu"))
        holds(at, gpus, need.gpus, f"a pod needs {need.gpus} GPUs", f"nvidia.com/gpu: {need.gpus}")
        what = f"UCX takes up to {format_bytes(need.hugepage_bytes)} of huge pages"
        huge = limits.get("hugepages-2Mi", 0)
        holds(f"{at}.hugepages-2Mi", huge, need.hugepage_bytes, what, format_quantity(need.hugepage_bytes))
        if isinstance(given, EngineSettings):
            what = f"buffer and object store of a pod take {shm} of /dev/shm"
            has = parse_quantity(given.shm, f"{source}: {group}.shm")
            holds(f"{group}.shm", has, need.shm_bytes, what, format_quantity(need.shm_bytes))
            what = f"the autoscaler may not go below {given.replicas} pods"
            holds(f"{group}.maxReplicas", given.max_replicas, given.replicas, what, str(given.replicas))
        if isinstance(given, StorageSettings):
            what = f"the system has {need.pods} {group} nodes, and each is a pod"
            holds(f"{group}.replicas", given.replicas, need.pods, what, str(need.pods))
            ray = parse_quantity(given.ray.get(RAY_CPUS, "0"), f"{source}: {group}.ray.{RAY_CPUS}")
            if ray != need.ray_cpus:
                what = f'Ray may give out the {need.ray_cpus} CPUs of one node; write "{need.ray_cpus}"'
                found.append(f"{source}: {group}.ray.{RAY_CPUS}: {what}")
    return found


def as_settings(needs: dict[str, PodNeeds]) -> str:
    """The needs in the form of settings.yaml."""
    lines: list[str] = []
    for group, need in needs.items():
        limits = [f'cpu: "{need.cpus}"', f"memory: {format_quantity(need.memory_bytes)}"]
        limits += [f"nvidia.com/gpu: {need.gpus}"] if need.gpus else []
        limits += [f"hugepages-2Mi: {format_quantity(need.hugepage_bytes)}"] if need.hugepage_bytes else []
        lines.append(f"{group}:")
        if group != "head":
            lines += [f"  replicas: {need.pods}", f'  ray: {{{RAY_CPUS}: "{need.ray_cpus}"}}']
        lines += ["  resources:", f"    limits: {{{', '.join(limits)}}}"]
        if need.ray_cpus:
            lines.append(f"  shm: {format_quantity(need.shm_bytes)}")
    return "\n".join(lines)
