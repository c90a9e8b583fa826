"""What a rollout is asked for on the command line or by a job. None: the configuration or the workload decides."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from dualpath_ray.config.cluster import ClusterConfig

Echo = Callable[[str], None]
PageOfRun = Callable[[str, ClusterConfig, Echo], AbstractContextManager[None]]


def no_page(system: str, config: ClusterConfig, echo: Echo) -> AbstractContextManager[None]:
    """Serve nothing."""
    return nullcontext()


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """One field per flag of ``dualpath rollout``, and ``page``: what serves the live page of a run's own system."""

    trace: str = "code-reading"
    num_trajectories: int | None = None
    max_turns: int | None = None
    token_scale: float = 1.0
    max_gen: int | None = None
    gen_tokens: int | None = None
    total_tokens: int | None = None
    seed: int | None = None
    tool_delays: bool = False
    read_path: str | None = None
    layerwise: bool | None = None
    quota: bool | None = None
    compare: tuple[str, ...] = ()
    address: str | None = None
    out: str | None = None
    keep_store: bool = False
    resume: bool = False
    system: str | None = None
    verify_tokens: bool = True
    page: PageOfRun = field(default=no_page, compare=False)
