"""Lanes of the NICs: opensm's QoS keys, and which service level each traffic class takes (section 5, appendix A.1)."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.lanes import Lanes
from dualpath_ray.base.mark import Mark
from dualpath_ray.base.types import TrafficClass
from dualpath_ray.base.vl_shares import starvation_bound
from dualpath_ray.base.vl_tables import DROPPED, VlTables, parse_vl_tables
from dualpath_ray.config.roce import COMPUTE_CLASSES, KV_CLASSES, RoceConfig
from dualpath_ray.config.section import Section

ServiceLevel = Annotated[int, Field(ge=0, le=15)]
NetworkKind = Literal["infiniband", "roce"]


class LaneConfig(Section):
    """Virtual lanes of a kind of NIC. The keys are those of opensm."""

    CLASSES: ClassVar[tuple[TrafficClass, ...]]  # that go over these NICs

    qos_max_vls: PositiveInt = Field(4, description="Virtual lanes of a port: 1, 2, 4, 8 or 15.")
    qos_high_limit: int = Field(
        240, description="Times 4 KiB that the high table sends before the low one may send a packet; 255: no limit."
    )
    qos_vlarb_high: str = Field("0:192,1:192,2:0,3:192", description="High table, lane:weight; a weight is 64 bytes.")
    qos_vlarb_low: str = Field("0:192,1:192,2:64,3:192", description="Low table.")
    qos_sl2vl: str | None = Field(
        None, description="Lane of each of 16 service levels, 15 drops. Unset: each its own, as far as lanes go."
    )
    service_levels: dict[TrafficClass, ServiceLevel] = Field(description="Service level of each traffic class.")
    packet_bytes: Literal[256, 512, 1024, 2048, 4096] = Field(4096, description="Largest packet (MTU) of the fabric.")

    @property
    def tables(self) -> VlTables:
        """Raises: ConfigError naming the key."""
        return parse_vl_tables(
            self.qos_max_vls, self.qos_high_limit, self.qos_vlarb_high, self.qos_vlarb_low, self.qos_sl2vl
        )

    @property
    def lanes(self) -> Lanes:
        return Lanes(self.tables, dict(self.service_levels), self.packet_bytes)

    @model_validator(mode="after")
    def _tables_serve_every_class(self) -> Self:
        try:
            lanes = self.lanes
        except ConfigError as error:
            raise ValueError(str(error)) from error
        for traffic_class in self.service_levels:
            if traffic_class not in self.CLASSES:
                raise ValueError(f"service_levels: {traffic_class} does not go over these NICs; leave it out")
        for traffic_class in self.CLASSES:
            if traffic_class not in self.service_levels:
                raise ValueError(f"service_levels has none for {traffic_class}; every class of these NICs needs one")
            if lanes.lane(traffic_class) == DROPPED:
                raise ValueError(
                    f"service_levels: {traffic_class} takes service level {self.service_levels[traffic_class]}, which "
                    "qos_sl2vl drops; give it a lane"
                )
            lane = lanes.lane(traffic_class)
            if starvation_bound(lanes.tables, lane, self.packet_bytes) is None:
                raise ValueError(
                    f"qos_high_limit: 255 is no limit, so lane {lane} of {traffic_class}, which has no weight in "
                    "qos_vlarb_high, might never send; set a limit or give it a weight"
                )
        return self


class CnicLanes(LaneConfig):
    """Of compute NICs: collectives over KV, by appendix A.1's tables."""

    CLASSES = COMPUTE_CLASSES

    service_levels: dict[TrafficClass, ServiceLevel] = Field(
        dict(zip(CLASSES, (0, 1, 2), strict=True)), description="Service level of each traffic class."
    )


class SnicLanes(LaneConfig):
    """Of storage NICs (ours): who waits for a block comes first, and what can wait still moves."""

    CLASSES = (TrafficClass.KV_URGENT, TrafficClass.KV_CACHE, TrafficClass.WRITE_BACK, TrafficClass.SCRUB)

    qos_vlarb_high: str = Field("0:192,1:64", description="High table, lane:weight; a weight is 64 bytes.")
    qos_vlarb_low: str = Field("2:192,3:64", description="Low table.")
    service_levels: dict[TrafficClass, ServiceLevel] = Field(
        dict(zip(CLASSES, (0, 1, 2, 3), strict=True)), description="Service level of each traffic class."
    )


class FabricConfig(Section):
    """What keeps KV from slowing the model down: on emulated NICs, and in what `dualpath fabric` writes."""

    urgent_s: NonNegativeFloat = Field(
        0.5, description="Seconds before a request's deadline from which its KV goes in the lane of kv_urgent."
    )
    kind: NetworkKind | None = Field(
        None,
        description="Network of the compute NICs: infiniband or roce. Packets are marked with their class where it is set; "
        "unset, they are not, and `dualpath fabric` takes infiniband.",
    )
    cnic: CnicLanes = CnicLanes()
    snic: SnicLanes = SnicLanes()
    roce: RoceConfig = RoceConfig()

    @property
    def network(self) -> NetworkKind:
        """That files are written for."""
        return self.kind or "infiniband"

    def mark(self, traffic_class: TrafficClass) -> Mark:
        """What puts NCCL's packets, or UCX's, into the lane of a class."""
        program = "NCCL" if traffic_class is TrafficClass.MODEL_EXECUTION else "UCX"
        if self.network == "infiniband":
            return Mark(f"{program}_IB_SL", str(self.cnic.service_levels[traffic_class]))
        variable = "NCCL_IB_TC" if program == "NCCL" else "UCX_IB_TRAFFIC_CLASS"
        return Mark(variable, str(self.roce.tos(traffic_class)))

    @property
    def marks(self) -> dict[TrafficClass, Mark]:
        """Of UCX's packets between nodes. None where nobody said which network it is: its lanes may be there for others."""
        return {each: self.mark(each) for each in KV_CLASSES} if self.kind else {}

    @property
    def tos(self) -> dict[TrafficClass, int]:
        """Type of service of each class's packets, where the network tells classes apart by it."""
        return {each: self.roce.tos(each) for each in self.roce.dscp} if self.kind == "roce" else {}
