"""Names of the compute NICs in what is written: by RDMA device for NCCL and UCX, by interface for tools of Ethernet. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualpath_ray.base.nic_choice import AUTO
from dualpath_ray.base.nic_devices import HostDevices


@dataclass(frozen=True, slots=True)
class Cnic:
    """One that ``node.cnic`` names. Where this host does not have it, both names are the configured one."""

    interface: str
    rdma: str  # mlx5_0
    rdma_port: int = 1
    known: bool = True

    @property
    def port_name(self) -> str:
        """As NCCL and UCX take it: ``mlx5_0:1``."""
        return f"{self.rdma}:{self.rdma_port}" if self.known else self.rdma


def named_cnics(names: Sequence[str], host: HostDevices) -> tuple[Cnic, ...]:
    """Each once; none of ``auto``, which every node decides for itself.

    Args: names: ``node.cnic``; host: the machine that writes, which need not have the devices.
    """
    return tuple(_cnic(name, host) for name in dict.fromkeys(names) if name != AUTO)


def _cnic(name: str, host: HostDevices) -> Cnic:
    nic = host.named(name)
    if nic is None or nic.rdma is None:
        return Cnic(name, name, known=False)
    return Cnic(nic.name, nic.rdma, nic.rdma_port)
