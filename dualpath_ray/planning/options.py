"""What a simulated run is asked for on the command line. None: the configuration or the workload decides."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """One field per flag of ``dualpath simulate``; those that ``rollout`` has too mean the same."""

    trace: str = "table2-64k"
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
    out: str | None = None
    costs: Path | None = None
    aps: float | None = None
    duration_s: float | None = None
