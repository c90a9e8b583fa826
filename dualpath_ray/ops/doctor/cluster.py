"""Whether a Ray cluster has what a configuration asks of it. Pure, but for ``cluster_checks``, which goes there and looks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import Role
from dualpath_ray.ops.doctor.check import Check, Level

if TYPE_CHECKING:
    from dualpath_ray.cluster.plan import SystemPlan
    from dualpath_ray.cluster.survey import RayNode

LABEL = "dualpath-role"


def cluster_checks(address: str, plan: "SystemPlan | None") -> list[Check]:
    """Args: address: of a cluster that answers; plan: of the configuration, where one is given."""
    from dualpath_ray.cluster.survey import survey  # loads Ray

    try:
        found = survey(address)
    except ConfigError as error:
        remedy = "use its version of Ray, and its token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        return [Check("Ray cluster", str(error).removeprefix("--address: "), Level.ERROR, remedy)]
    cpus, gpus = sum(node.cpus for node in found.nodes), sum(node.gpus for node in found.nodes)
    says = f"{len(found.nodes)} nodes, {cpus:g} CPUs, {gpus:g} GPUs"
    checks = [Check("Ray cluster", says)]
    if plan is not None:
        required = plan.config.node.role_labels == "required"
        numbers = {Role.PREFILL: plan.config.prefill_nodes, Role.DECODE: plan.config.decode_nodes}
        engines = plan.config.node.gpus
        each = engines * plan.cpus_per_engine, engines * plan.gpus_per_engine
        checks += [room_check(role, num, each, found.nodes, required) for role, num in numbers.items()]
        checks.append(storage_check(found.nodes, required))
    return checks


def room_check(role: str, num: int, each: tuple[float, float], nodes: Sequence["RayNode"], required: bool) -> Check:
    """Whether so many logical nodes of a role fit, each on one Ray node.

    Args: each: CPUs and GPUs of a logical node; required: as ``node.role_labels``.
    """
    name = f"{role} nodes"
    labelled = [node for node in nodes if node.role == role]
    if required and not labelled:
        remedy = f"start Ray nodes with --labels={LABEL}={role}, or let the autoscaler do it"
        return Check(name, f"no Ray node has the label {LABEL}={role}", Level.WARNING, remedy)
    places = labelled or nodes
    cpus, gpus = each
    fit = sum(
        min(int(node.cpus / cpus + 1e-6), int(node.gpus / gpus + 1e-6) if gpus else num) for node in places
    )  # of this role alone
    where = f"Ray nodes with {LABEL}={role}" if labelled else "Ray nodes (none has a label for this role, so all count)"
    needs = f"{cpus:g} CPUs{f' and {gpus:g} GPUs' if gpus else ''}"
    if fit >= num:
        return Check(name, f"{num} of {needs} each fit on {len(places)} {where}")
    remedy = "add Ray nodes, or use fewer nodes or smaller engines (engine.cpus, engine.gpus)"
    return Check(name, f"of {num} with {needs} each, {fit} fit on {len(places)} {where}", Level.ERROR, remedy)


def storage_check(nodes: Sequence["RayNode"], required: bool) -> Check:
    """Where storage nodes would be."""
    labelled = [node.address for node in nodes if node.role == "storage"]
    if labelled:
        return Check("storage nodes", f"on Ray nodes with {LABEL}=storage: {', '.join(labelled)}")
    if required:
        remedy = f"start a Ray node with --labels={LABEL}=storage"
        return Check("storage nodes", f"no Ray node has the label {LABEL}=storage", Level.WARNING, remedy)
    return Check("storage nodes", "anywhere: no Ray node is labelled for storage")
