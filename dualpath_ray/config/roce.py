"""Queues of RoCE: which DSCP and priority each traffic class takes, and its share of the link (appendix A.1)."""

from collections import Counter
from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from dualpath_ray.base.types import TrafficClass
from dualpath_ray.config.section import Section

KV_CLASSES = (TrafficClass.KV_URGENT, TrafficClass.KV_CACHE)  # of those that go over compute NICs
COMPUTE_CLASSES = (TrafficClass.MODEL_EXECUTION, *KV_CLASSES)

_NUM_PRIORITIES = 8
_NUM_DSCPS = 64
_ECT = 2  # the low bits of the byte that holds a DSCP: switches may mark congestion instead of dropping


class RoceConfig(Section):
    """Of compute NICs and their switches. A priority is a queue (traffic class) of its own on both."""

    dscp: dict[TrafficClass, int] = Field(
        dict(zip(COMPUTE_CLASSES, (46, 34, 26), strict=True)), description="DSCP of each traffic class's packets."
    )
    priorities: dict[TrafficClass, int] = Field(
        dict(zip(COMPUTE_CLASSES, (5, 4, 3), strict=True)), description="Priority, and so queue, of each traffic class."
    )
    ets_percent: dict[TrafficClass, int] = Field(
        dict(zip(COMPUTE_CLASSES, (97, 1, 1), strict=True)),
        description="Share of the link of each traffic class while all want it.",
    )
    control_dscps: list[int] = Field(
        [48, 56],
        description="DSCPs of control packets, such as congestion notices (CNPs) and routing; empty: no queue for them.",
    )
    control_priority: int = Field(
        6, description="Their priority, and so queue. It is strict: it goes before all others and has no share."
    )
    other_priority: int = Field(0, description="Priority, and so queue, of all other packets: Ray's, TCP.")
    other_ets_percent: int = Field(1, description="Their share of the link.")
    pfc_priorities: list[int] = Field(
        [3, 4, 5], description="Priorities that lose no packets: a full receiver pauses them (PFC)."
    )

    def tos(self, traffic_class: TrafficClass) -> int:
        """The whole byte, as NCCL, UCX and ``cma_roce_tos`` take it."""
        return self.dscp[traffic_class] << 2 | _ECT

    @property
    def priority_of_dscp(self) -> dict[int, int]:
        """Of the DSCPs that a class or control packets take; every other one has ``other_priority``."""
        found = {self.dscp[each]: self.priorities[each] for each in COMPUTE_CLASSES}
        return found | dict.fromkeys(self.control_dscps, self.control_priority)

    @property
    def percent_of_priority(self) -> dict[int, int]:
        """Share of every queue that shares the link, by its number."""
        found = {self.priorities[each]: self.ets_percent[each] for each in COMPUTE_CLASSES}
        return dict(sorted((found | {self.other_priority: self.other_ets_percent}).items()))

    @property
    def kind_of_queue(self) -> dict[int, str]:
        """``ets`` or ``strict``, of every queue in use."""
        strict = [self.control_priority] if self.control_dscps else []
        return dict(sorted((dict.fromkeys(self.percent_of_priority, "ets") | dict.fromkeys(strict, "strict")).items()))

    @property
    def queue_of_priority(self) -> tuple[int, ...]:
        """Queue of each of the eight priorities: those of classes and control packets have their own.

        The rest share that of other packets.
        """
        used = self.kind_of_queue
        return tuple(each if each in used else self.other_priority for each in range(_NUM_PRIORITIES))

    @model_validator(mode="after")
    def _every_class_has_all(self) -> Self:
        for key in ("dscp", "priorities", "ets_percent"):
            values: Mapping[TrafficClass, int] = getattr(self, key)
            for traffic_class in COMPUTE_CLASSES:
                if traffic_class not in values:
                    raise ValueError(f"{key} has none for {traffic_class}; every class of compute NICs needs one")
            for traffic_class in values:
                if traffic_class not in COMPUTE_CLASSES:
                    raise ValueError(f"{key}: {traffic_class} does not go over compute NICs; leave it out")
        return self

    @model_validator(mode="after")
    def _numbers_exist(self) -> Self:
        for traffic_class, dscp in self.dscp.items():
            if not 0 <= dscp < _NUM_DSCPS:
                raise ValueError(f"dscp: {dscp} of {traffic_class} is not from 0 to 63")
        for dscp in self.control_dscps:
            if not 0 <= dscp < _NUM_DSCPS:
                raise ValueError(f"control_dscps: {dscp} is not from 0 to 63")
        for name, priority in self._all_priorities().items():
            if not 0 <= priority < _NUM_PRIORITIES:
                raise ValueError(f"{name} is {priority}, which is not from 0 to 7")
        return self

    @model_validator(mode="after")
    def _each_its_own(self) -> Self:
        for dscp, number in Counter(self.dscp.values()).items():
            if number > 1:
                both = " and ".join(each for each, value in self.dscp.items() if value == dscp)
                raise ValueError(f"dscp: {both} take {dscp} alike, so no switch could tell them apart")
        for dscp, number in Counter(self.control_dscps).items():
            if of := [each for each, value in self.dscp.items() if value == dscp]:
                raise ValueError(
                    f"control_dscps: {dscp} is the DSCP of {of[0]}; leave it out, or give the class another"
                )
            if number > 1:
                raise ValueError(f"control_dscps: {dscp} stands there twice; once is enough")
        for priority, number in Counter(self._all_priorities().values()).items():
            if number > 1:
                both = " and ".join(each for each, value in self._all_priorities().items() if value == priority)
                raise ValueError(f"{both} are {priority} alike; give each its own, for a priority is a queue")
        return self

    @model_validator(mode="after")
    def _shares_starve_nobody(self) -> Self:
        shares = {f"ets_percent.{each}": share for each, share in self.ets_percent.items()}
        shares["other_ets_percent"] = self.other_ets_percent
        for key, share in shares.items():
            if share < 1:
                raise ValueError(f"{key} is {share}, so its queue might never send; give it at least 1")
        if (total := sum(shares.values())) != 100:
            raise ValueError(f"ets_percent and other_ets_percent sum to {total}; make it 100")
        return self

    @model_validator(mode="after")
    def _pfc_of_classes(self) -> Self:
        used = sorted(self.priorities.values())
        for priority, number in Counter(self.pfc_priorities).items():
            if priority not in used:
                raise ValueError(
                    f"pfc_priorities: {priority} is the priority of no traffic class; choose from "
                    f"{', '.join(map(str, used))}"
                )
            if number > 1:
                raise ValueError(f"pfc_priorities: {priority} stands there twice; once is enough")
        return self

    def _all_priorities(self) -> dict[str, int]:
        """By key; without that of control packets where they have no DSCP."""
        found = {f"priorities.{each}": priority for each, priority in self.priorities.items()}
        found |= {"other_priority": self.other_priority}
        return found | ({"control_priority": self.control_priority} if self.control_dscps else {})
