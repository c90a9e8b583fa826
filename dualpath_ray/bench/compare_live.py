"""A comparison of modes, run live on a laptop configuration at a rate of its storage NICs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dualpath_ray.base.units import format_rate, parse_bps
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.ops.options import RolloutOptions
from dualpath_ray.ops.rollout import Comparison, compared, prepare, write_all

CNIC_OVER_SNIC = 10


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """``directory`` holds what a rollout writes; ``summary`` is its ``summary.json``."""

    label: str  # e.g. 1P2D
    config: ClusterConfig
    comparison: Comparison
    summary: dict[str, Any]
    directory: Path


def compare_live(
    config: Path, rate: str, options: RolloutOptions, out: Path, echo: Callable[[str], None], live: TextIO | None
) -> LiveComparison:
    """Run ``options.compare`` with storage NICs of ``rate`` and compute NICs ten times as fast.

    Raises: ConfigError naming file and key.
    """
    snic = parse_bps(rate)
    prepared = prepare(config, options, {"node.snic_bps": snic, "node.cnic_bps": snic * CNIC_OVER_SNIC})
    cluster = prepared.config
    label = f"{cluster.prefill_nodes}P{cluster.decode_nodes}D"
    echo(f"{label} at {format_rate(snic)}")
    comparison = compared(prepared, options, echo, live=live)
    directory = out / f"{label}-{format_rate(snic).replace(' ', '').replace('/', 'p')}"
    return LiveComparison(label, cluster, comparison, write_all(directory, comparison), directory)
