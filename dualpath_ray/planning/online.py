"""Agents that arrive one by one, and whether a system keeps its promises to them (section 7.4)."""

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.observability.run_record import RunRecord
from dualpath_ray.observability.turn_columns import column

SLO_TTFT_S, SLO_TPOT_S = 4.0, 0.05  # section 7.4
WARM_UP_SHARE = 0.5  # of the duration: until then agents are too few and their contexts too short


@dataclass(frozen=True, slots=True)
class Online:
    """Poisson arrivals of agents: ``aps`` a second for ``duration_s`` seconds."""

    aps: float
    duration_s: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.aps < inf:
            raise ConfigError(f"--aps: {self.aps} is no rate of arrivals; it must be a number above 0")
        if not 0 < self.duration_s < inf:
            raise ConfigError(f"--duration: {self.duration_s} s is no time; it must be a number above 0")


@dataclass(frozen=True, slots=True)
class Slo:
    """Means over turns that must not be passed."""

    ttft_s: float = SLO_TTFT_S
    tpot_s: float = SLO_TPOT_S


def poisson_arrivals(online: Online) -> list[float]:
    """Times of arrival, in order."""
    rng = np.random.default_rng(online.seed)
    count = int(online.aps * online.duration_s * 1.5) + 32
    times = np.cumsum(rng.exponential(1 / online.aps, count))
    return [float(t) for t in times if t <= online.duration_s]


def online_means(run: RunRecord, online: Online) -> dict[str, float]:
    """Mean TTFT, TTST and TPOT in seconds of the turns that were submitted after the warm-up; and how many there are.

    Of those that have ended: who still waits at the end of a run that keeps its promises is one in thousands.
    """
    submit = column(run.turns, "submit_s")
    kept = submit >= WARM_UP_SHARE * online.duration_s
    later = kept & (column(run.turns, "generated_tokens") > 1)
    return {
        "ttft_s": _mean(column(run.turns, "ttft_s")[kept]),
        "ttst_s": _mean(column(run.turns, "ttst_s")[later]),
        "tpot_s": _mean(column(run.turns, "tpot_s")[later]),
        "num_turns": int(kept.sum()),
    }


def online_summary(run: RunRecord, online: Online, slo: Slo | None = None) -> dict[str, Any]:
    """Means of a run against the SLO, in numbers and in words."""
    slo = slo or Slo()
    means = online_means(run, online)
    if not means["num_turns"]:
        said = (
            f"{run.mode}: at {online.aps:g} agents/s no turn was submitted after half of --duration; let it be longer"
        )
        return {"mode": run.mode, "aps": online.aps, "within_slo": False, **means, "said": said}
    kept = means["ttft_s"] <= slo.ttft_s and means["tpot_s"] <= slo.tpot_s
    said = (
        f"{run.mode}: at {online.aps:g} agents/s mean TTFT {means['ttft_s']:.3f} s, TTST {means['ttst_s']:.3f} s, "
        f"TPOT {means['tpot_s'] * 1000:.1f} ms: {'within' if kept else 'outside'} the SLO of {slo.ttft_s:g} s and "
        f"{slo.tpot_s * 1000:g} ms"
    )
    return {"mode": run.mode, "aps": online.aps, "within_slo": kept, **means, "said": said}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
