"""A split as the systems that are simulated for it: the dual path, the single path, and the paper's Basic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.config.costs import Efficiency, FittedCosts
from dualpath_ray.config.load import load_cluster
from dualpath_ray.config.modes import mode_overrides
from dualpath_ray.planning.limits import node_links
from dualpath_ray.planning.links import BottleneckFreeRange, bottleneck_free_range
from dualpath_ray.planning.split import MOST_NODES, Split, model_of
from dualpath_ray.simulator.build import TypicalTurn, cluster_spec, typical_turn
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.trajectory import TrajectoryLengths

DUAL, SINGLE, BASIC = "scheduled", "prefill_only", "basic"
SYSTEMS = (DUAL, SINGLE, BASIC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A split that fits its hardware.

    Args: specs: of the cluster that is simulated, by system, without Basic where that has no room;
        scale: how many of it make the one that is planned;
        free: the range of P/D in which only storage NICs saturate (section 4.2), None where those are not limited.
    """

    split: Split
    model: Split
    scale: float
    specs: dict[str, ClusterSpec]
    free: BottleneckFreeRange | None

    @property
    def first_link(self) -> str | None:
        """The link that saturates before the storage NICs do; None when none does."""
        if self.free is None or self.free.contains(self.split.prefill_nodes, self.split.decode_nodes):
            return None
        below = self.split.prefill_nodes / self.split.decode_nodes < self.free.low
        return (self.free.low_link if below else self.free.high_link).value


def make_candidate(
    path: Path,
    given: dict[str, Any],
    split: Split,
    turn: TypicalTurn,
    costs: Efficiency | FittedCosts | None,
    most_nodes: int = MOST_NODES,
) -> Candidate:
    """Args:   given: values in place of the configuration's.
    Raises: ConfigError naming file and key when such a cluster cannot be.
    """
    specs = {}
    nodes = {"prefill_nodes": split.prefill_nodes, "decode_nodes": split.decode_nodes}
    for system in SYSTEMS:
        config = load_cluster(path, {**given, **mode_overrides(system), **nodes})
        try:
            specs[system] = cluster_spec(config, str(path), turn, costs)
        except ConfigError:
            if system != BASIC:  # which holds all layers' KV of a batch at once, and may find no room for it
                raise
    model = model_of(split, most_nodes)
    scale = split.nodes / model.nodes
    links = node_links(specs[DUAL])
    small = {system: _smaller(spec, model, scale) for system, spec in specs.items()}
    return Candidate(split, model, scale, small, bottleneck_free_range(links) if links else None)


def _smaller(spec: ClusterSpec, model: Split, scale: float) -> ClusterSpec:
    """The same nodes, fewer of them: what an engine costs is that of the whole cluster, whose weights are spread wider."""
    if scale == 1:
        return spec
    servers = spec.storage_bytes_per_s
    return replace(
        spec,
        prefill_nodes=model.prefill_nodes,
        decode_nodes=model.decode_nodes,
        prefill_group=min(spec.prefill_group, model.prefill_nodes * spec.engines),
        storage_bytes_per_s=servers / scale if servers else None,
    )


def make_candidates(
    path: Path,
    given: dict[str, Any],
    splits: Sequence[Split],
    trajectories: Sequence[TrajectoryLengths],
    costs: Efficiency | FittedCosts | None,
    most_nodes: int = MOST_NODES,
) -> tuple[list[Candidate], dict[Split, str]]:
    """Those that fit, and why the others do not.

    Raises: ConfigError of the last split when none fits, or when the trace has no turn.
    """
    turn = typical_turn(trajectories)
    fit: list[Candidate] = []
    unfit: dict[Split, str] = {}
    last: ConfigError | None = None
    for split in splits:
        try:
            fit.append(make_candidate(path, given, split, turn, costs, most_nodes))
        except ConfigError as error:
            unfit[split], last = str(error).removeprefix(f"{path}: "), error
    if last is not None and not fit:
        raise last
    return fit, unfit
