"""The files of ``dualpath fabric``: which there are, and where they go."""

from dataclasses import dataclass
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_devices import HostDevices
from dualpath_ray.config.cluster import ClusterConfig
from dualpath_ray.ops.fabric import infiniband, roce, switches
from dualpath_ray.ops.fabric.devices import named_cnics
from dualpath_ray.ops.fabric.environment import environment_files
from dualpath_ray.ops.fabric.text import MARK
from dualpath_ray.ops.results_dir import make_out, writing_to

_HEAD_LINES = 2  # the mark is in one of these: a script's first line is its interpreter


@dataclass(frozen=True, slots=True)
class FabricFile:
    name: str
    text: str


def fabric_files(config: ClusterConfig, host: HostDevices) -> list[FabricFile]:
    """All files of the configuration's kind of network, in the order in which they are read. Pure.

    Args: host: the machine that writes them; it may know both names of a device.
    """
    fabric, cnics = config.fabric, named_cnics(config.node.cnic, host)
    if fabric.network == "infiniband":
        texts = {
            infiniband.LANES: infiniband.lane_tables(fabric.cnic),
            infiniband.OPENSM: infiniband.opensm_conf(fabric.cnic),
            infiniband.POLICY: infiniband.qos_policy(fabric.cnic),
            infiniband.PARTITIONS: infiniband.partitions(fabric.cnic),
        }
    else:
        texts = {
            roce.QUEUES: roce.queue_tables(fabric.roce),
            roce.MLNX_QOS: roce.mlnx_qos_script(fabric.roce, cnics),
            roce.DCB: roce.dcb_script(fabric.roce, cnics),
            switches.CUMULUS: switches.cumulus(fabric.roce),
            switches.SONIC: switches.sonic(fabric.roce),
        }
    return [FabricFile(name, text) for name, text in (texts | environment_files(fabric, cnics)).items()]


def write_files(out: Path, files: list[FabricFile]) -> None:
    """Raises: ConfigError when the directory has other files in it, or cannot be written."""
    make_out(out)
    with writing_to(out):
        ours = {file.name for file in files}
        strangers = [entry.name for entry in sorted(out.iterdir()) if entry.name not in ours or not is_ours(entry)]
        if strangers:
            raise ConfigError(f"--out: {out} has other files in it ({', '.join(strangers)}); name a new directory")
        for file in files:
            (out / file.name).write_text(file.text)


def is_ours(file: Path) -> bool:
    """Whether this command wrote it."""
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return any(MARK in lines.readline() for _ in range(_HEAD_LINES))
    except OSError:
        return False
