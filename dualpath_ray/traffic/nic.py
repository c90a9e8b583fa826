"""An emulated NIC: full duplex, a queue for each direction."""

from enum import StrEnum

from dualpath_ray.base.lanes import Lanes
from dualpath_ray.traffic.nic_queue import NicQueue


class Direction(StrEnum):
    """Seen from the node: IN is a storage read or a receive, OUT a storage write or a send."""

    IN = "in"
    OUT = "out"


class Nic:
    """A full-duplex NIC with a name such as ``p0/snic`` or ``d0/cnic0``."""

    def __init__(
        self,
        name: str,
        in_bytes_per_s: float | None,
        out_bytes_per_s: float | None,
        charged: bool = True,
        lanes: Lanes | None = None,
    ) -> None:
        """Args: as of ``NicQueue``."""
        self.name = name
        self.device: str | None = None  # whose link the bytes go over, where that is known
        self.queues = {
            Direction.IN: NicQueue(f"{name}/in", in_bytes_per_s, charged, lanes),
            Direction.OUT: NicQueue(f"{name}/out", out_bytes_per_s, charged, lanes),
        }

    def __getitem__(self, direction: Direction) -> NicQueue:
        return self.queues[direction]

    def carried_by(self, device: str | None, link_bytes_per_s: float | None) -> None:
        """Say which real device carries this NIC's bytes, and the rate of its link in each direction."""
        self.device = device
        for queue in self.queues.values():
            queue.link_bytes_per_s = link_bytes_per_s
