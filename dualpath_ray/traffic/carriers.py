"""Which devices carry the copies of a node's compute NICs: that depends on each peer's transport. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from dualpath_ray.base.nic_devices import NicDevice

_SHARED_MEMORY = "shared_memory"


@dataclass(frozen=True, slots=True)
class Carriers:
    """What carries copies to and from a node's peers; all of its engines share it."""

    transports: Mapping[str, str]  # peer -> name of its transport
    sockets: NicDevice | None  # the device that sockets are bound to
    ucx: tuple[NicDevice, ...]  # those that UCX is held to; none: it takes what it likes

    @property
    def on_host(self) -> frozenset[str]:
        """Peers whose copies are on no device."""
        return frozenset(peer for peer, transport in self.transports.items() if transport == _SHARED_MEMORY)

    @property
    def _used(self) -> list[tuple[NicDevice, ...]]:
        """What transports take whose copies leave the host; those that take the same are one."""
        known = {"sockets": (self.sockets,) if self.sockets else (), "nixl": self.ucx}
        names = (name for name in self.transports.values() if name != _SHARED_MEMORY)
        return list(dict.fromkeys(known.get(name, ()) for name in names))

    @property
    def devices(self) -> tuple[NicDevice, ...]:
        """None where no copy leaves the host, or a transport does not let us know its device."""
        used = self._used
        return tuple(dict.fromkeys(device for devices in used for device in devices)) if all(used) else ()

    @property
    def name(self) -> str | None:
        return ", ".join(device.name for device in self.devices) or None

    @property
    def link_bps(self) -> int | None:
        """Of all devices together; None where one does not tell, or where peers are reached over different ones: bytes for
        one of them do not keep the other's link busy."""
        if len(self._used) > 1:
            return None
        rates = [device.rate_bps for device in self.devices]
        return sum(rate for rate in rates if rate) if rates and all(rates) else None

    def says(self, own: str | None) -> str:
        """What to add for people to an engine's own device. Args: own: its name."""
        if len(self.on_host) == len(self.transports):
            return "; no copy leaves this host"
        if self.name == own:
            return ""
        return (
            f"; the engines' copies share {self.name}" if self.name else "; copies go over what their transport takes"
        )
