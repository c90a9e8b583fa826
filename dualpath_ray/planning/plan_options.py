"""What a plan is asked for on the command line."""

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.planning.online import Slo
from dualpath_ray.planning.options import SimulateOptions


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """``workload``: flags that ``simulate`` has too. ``offline``: a job's time counts, else the rate within ``slo``.

    Raises: ConfigError when they contradict each other.
    """

    workload: SimulateOptions = field(default_factory=SimulateOptions)
    nodes: int | None = None  # None: as many as the configuration has
    offline: bool = False
    aps: float | None = None  # that must be sustained; None: as high as possible
    slo: Slo = field(default_factory=Slo)
    costs: Path | None = None
    out: str | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.offline and self.aps is not None:
            raise ConfigError("--offline and --aps contradict each other: offline all agents start at once")
        if self.aps is not None and not 0 < self.aps < inf:
            raise ConfigError(f"--aps: {self.aps:g} is no rate of arrivals; it must be a number above 0")
        for flag, value in (("--slo-ttft", self.slo.ttft_s), ("--slo-tpot", self.slo.tpot_s)):
            if not 0 < value < inf:
                raise ConfigError(f"{flag}: {value:g} s is no time; it must be a number above 0")
