"""From a file to what its pods need: the whole of ``dualpath kuberay``."""

from dataclasses import dataclass
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.plan import SystemPlan, make_plan
from dualpath_ray.config.load import parse_cluster, read_yaml
from dualpath_ray.engine.describe import DTYPE_BYTES
from dualpath_ray.ops.kuberay.needs import PodNeeds, pod_needs
from dualpath_ray.ops.kuberay.settings import Settings, is_settings, parse_settings, shortfalls


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a system's pods need, and which of it the file does not give them."""

    model: str
    needs: dict[str, PodNeeds]
    settings: Settings | None  # None when the file is a system's configuration alone
    short: list[str]


def sizes(file: Path, model: str | None) -> Sizes:
    """Read a system's configuration or an overlay's settings.yaml.

    Args:   model: one of the same shape that is here, when the file names a folder of the pods.
    Raises: ConfigError in one sentence that names file and key.
    """
    data = read_yaml(file)
    settings = parse_settings(data, file) if is_settings(data) else None
    source = f"{file}: system" if settings else str(file)
    config = parse_cluster(settings.system_config(str(file)) if settings else data, source, {"model": model})
    if Path(config.model).is_absolute() and not Path(config.model).exists():
        raise ConfigError(
            f"{source}: model: {config.model} is not on this machine; name a model of the same shape that is, with --model"
        )
    plan = make_plan(config, source)
    needs = pod_needs(plan, _weight_bytes(plan))
    return Sizes(config.model, needs, settings, shortfalls(settings, needs, str(file)) if settings else [])


def _weight_bytes(plan: SystemPlan) -> int:
    """Of one engine's weights; those of a model with random weights are counted, for no file tells."""
    if plan.description.weight_bytes:
        return plan.description.weight_bytes
    from dualpath_ray.ops.model_shape import planning_spec

    dtype = plan.config.engine.dtype
    return planning_spec(plan.description, dtype).total_parameters * DTYPE_BYTES[dtype]
