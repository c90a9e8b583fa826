"""Environment of the processes, one file a traffic class: what puts NCCL and UCX, and so NIXL, into its lane. Pure."""

from collections.abc import Sequence

from dualpath_ray.base.mark import Mark
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.fabric import FabricConfig
from dualpath_ray.config.roce import COMPUTE_CLASSES
from dualpath_ray.ops.fabric.devices import Cnic
from dualpath_ray.ops.fabric.text import comment, headed, joined

KINDS = {"infiniband": "InfiniBand", "roce": "RoCE"}


def env_name(traffic_class: TrafficClass) -> str:
    return f"env-{traffic_class.replace('_', '-')}.sh"


def device_variable(cnics: Sequence[Cnic], traffic_class: TrafficClass) -> tuple[str, str]:
    """The variable that names the compute NICs, and its value; empty where none is named."""
    names = ",".join(cnic.port_name for cnic in cnics)
    if traffic_class is TrafficClass.MODEL_EXECUTION:
        return "NCCL_IB_HCA", f"={names}" if names else ""  # "=": these names, not all that begin so
    return "UCX_NET_DEVICES", names


def environment_files(fabric: FabricConfig, cnics: Sequence[Cnic]) -> dict[str, str]:
    """File name -> text."""
    return {env_name(each): _environment(fabric, cnics, each) for each in COMPUTE_CLASSES}


def _environment(fabric: FabricConfig, cnics: Sequence[Cnic], traffic_class: TrafficClass) -> str:
    collectives = traffic_class is TrafficClass.MODEL_EXECUTION
    who = "NCCL" if collectives else "UCX, and NIXL over it,"
    lines = headed(
        KINDS[fabric.network],
        f"environment that makes {who} send as {traffic_class}",
        "",
        f"Source it before the process starts, or put its variables into Ray's runtime_env: . ./{env_name(traffic_class)}",
    )
    mark = fabric.mark(traffic_class)
    lines += ["", *comment(_lane_words(fabric, traffic_class)), f"export {mark}"]
    if fabric.network == "roce" and collectives:
        lines += comment("Its small control messages take the same one, unless NCCL_IB_FIFO_TC names another.")
    lines += ["", *_device_lines(cnics, traffic_class)]
    if not collectives:
        lines += ["", *_nixl_lines(mark)]
    return joined(lines)


def _lane_words(fabric: FabricConfig, traffic_class: TrafficClass) -> str:
    if fabric.network == "infiniband":
        unset = "it is 0" if traffic_class is TrafficClass.MODEL_EXECUTION else "UCX chooses one, as a rule 0"
        return f"Service level: lane {fabric.cnic.lanes.lane(traffic_class)}. Unset, {unset}, whoever's lane that is."
    dscp, priority = fabric.roce.dscp[traffic_class], fabric.roce.priorities[traffic_class]
    return f"DSCP {dscp} x 4 + 2 (congestion may be marked): priority and queue {priority}."


def _device_lines(cnics: Sequence[Cnic], traffic_class: TrafficClass) -> list[str]:
    variable, names = device_variable(cnics, traffic_class)
    if not names:
        return comment(
            f"{variable}: node.cnic is auto, so no device is named; name the compute NICs where there are others."
        )
    unknown = [cnic.rdma for cnic in cnics if not cnic.known]
    note = (
        comment(f"As in node.cnic; write the RDMA device and port, e.g. mlx5_0:1, for {', '.join(unknown)}.")
        if unknown
        else []
    )
    return [*comment("The compute NICs."), *note, f'export {variable}="{names}"']


def _nixl_lines(mark: Mark) -> list[str]:
    return comment(
        "NIXL has no lane of its own: UCX reads these while a backend is made. Two classes in one process are two agents,",
        "each with an option of its backend UCX in place of the variable, which would win where it is set:",
        f'  agent.create_backend("UCX", {{"engine_config": "{str(mark).removeprefix("UCX_")}"}})',
        "dualpath_ray's own agents need neither where fabric.kind is set: they take the lanes from the configuration.",
    )
