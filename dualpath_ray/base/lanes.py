"""Which virtual lane a traffic class takes on a NIC, and how the lanes share it (section 5, appendix A.1). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_tables import VlTables

PACKET_BYTES = 4096  # of a lane's turn: InfiniBand's largest packet


@dataclass(frozen=True, slots=True)
class Lanes:
    """Arbitration tables of a NIC's directions, and the service level of each class that goes over it."""

    tables: VlTables
    service_levels: Mapping[TrafficClass, int]
    packet_bytes: int = PACKET_BYTES

    def lane(self, traffic_class: TrafficClass) -> int:
        """Raises: ConfigError for a class that nobody configured."""
        level = self.service_levels.get(traffic_class)
        if level is None:
            known = ", ".join(self.service_levels)
            raise ConfigError(
                f"fabric: service_levels has none for {traffic_class}, which goes over this NIC; it has {known}"
            )
        return self.tables.sl_to_vl[level]
