"""Which device is a node's storage NIC, and which are its compute NICs. Pure: a host's devices in, a choice and why out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.base.nic_devices import HostDevices, NicDevice
from dualpath_ray.base.pci import Distance, PciPlace, distance, shared_steps

AUTO = "auto"
SNIC_KEY, CNIC_KEY = "node.snic", "node.cnic"


@dataclass(frozen=True, slots=True)
class NicChoice:
    """``device`` is None where the bytes go over none that is known; ``why`` is a clause for people."""

    device: NicDevice | None
    why: str

    @property
    def name(self) -> str | None:
        return self.device.name if self.device else None

    @property
    def address(self) -> str | None:
        """None, too, where RDMA alone goes over the device: its interface is not up."""
        device = self.device
        return device.address if device and (device.up or not device.rdma_up) else None

    @property
    def link_bps(self) -> int | None:
        return self.device.rate_bps if self.device else None

    def __str__(self) -> str:
        return f"{self.name}, {self.why}" if self.device else self.why


def named_device(name: str, key: str, where: str, host: HostDevices, rdma: bool = False) -> NicDevice:
    """The device that a configuration names.

    Args:   key: of the configuration; where: names this host in errors; rdma: whether it is used by RDMA where it can be,
            for which it needs no address.
    Raises: ConfigError when the host has none, or it has no address.
    """
    found = host.named(name)
    if found is None:
        there = ", ".join(_described(nic) for nic in host.nics) or "none"
        raise ConfigError(f"{key}: {where} has no network device {name}; it has {there}")
    if found.address is None and not (rdma and found.rdma):
        raise ConfigError(
            f"{key}: {name} of {where} has no IPv4 address, by which other nodes would reach it; give it one "
            "(IPoIB on InfiniBand), or name another device"
        )
    return found


def choose_snic(name: str, who: str, host: HostDevices, routes: Mapping[str, str | None]) -> NicChoice:
    """A device for the node's reads and writes.

    Args:   routes: of the storage nodes that are read from over the network: address -> this host's address on the way
            there. Empty where the store is opened as files.
    Raises: as ``named_device``.
    """
    if name != AUTO:
        return NicChoice(named_device(name, SNIC_KEY, f"the host of {who}", host), f"named in {SNIC_KEY}")
    if not routes:
        return NicChoice(None, "the store is opened as files, over whatever device their file system uses")
    away = {storage: source for storage, source in routes.items() if host.carrying(storage) is None}
    if not away:
        return NicChoice(None, "the storage node is on this host")
    storage, source = next(iter(away.items()))
    device = host.carrying(source) if source else None
    return NicChoice(device, f"the route to the storage node at {storage} {'goes by it' if device else 'is not known'}")


def uses_rdma(transport: str) -> bool:
    """Whether compute NICs may be without an IPv4 address: of the transports that take a device, sockets alone need one."""
    return transport != "sockets"


def choose_cnics(
    names: Sequence[str], who: str, host: HostDevices, num_engines: int, address: str, on_gpus: bool, transport: str
) -> list[NicChoice]:
    """A device for each engine.

    With ``auto``, engines on GPUs get the nearest RDMA devices, of which equally near ones are shared out. Without RDMA the
    bytes pass through DRAM, and being near a GPU gains nothing: the device of the node's address carries them.

    Args:   names: one for all engines, or one each; address: of the node in its Ray cluster; on_gpus: whether engines are;
            transport: as the configuration names it.
    Raises: as ``named_device``.
    """
    each = list(names) * num_engines if len(names) == 1 else names
    by_rdma = uses_rdma(transport)
    rdma = [nic for nic in host.nics if nic.rdma and (nic.rdma_up if by_rdma else nic.up and nic.address)]
    gpus = host.gpus if on_gpus else ()
    if AUTO in each and rdma and gpus:
        nearest = nearest_nics([gpus[engine % len(gpus)] for engine in range(num_engines)], rdma)
        auto = [
            NicChoice(nic, f"nearest to GPU {gpus[engine % len(gpus)].address} ({far.words})")
            for engine, (nic, far) in enumerate(nearest)
        ]
    else:
        device = host.carrying(address)
        auto = [
            NicChoice(device, f"{'it' if device else 'no device here'} has the node's address {address}")
        ] * num_engines
    named = {
        name: NicChoice(named_device(name, CNIC_KEY, f"the host of {who}", host, by_rdma), f"named in {CNIC_KEY}")
        for name in each
        if name != AUTO
    }
    return [named.get(name, auto[engine]) for engine, name in enumerate(each)]


def ucx_devices(names: Sequence[str], cnics: Sequence[NicChoice], host: HostDevices) -> tuple[NicDevice, ...]:
    """What UCX is held to: the devices of a node's CNICs, all of them for all engines.

    None, and UCX looks for itself, where ``auto`` took one without RDMA on a host that has RDMA: it would be kept from it.

    Args: names: as ``choose_cnics``, which gave ``cnics``.
    """
    devices = tuple(dict.fromkeys(cnic.device for cnic in cnics if cnic.device))
    kept_from_rdma = any(nic.rdma_up for nic in host.nics) and not any(device.rdma_up for device in devices)
    return () if kept_from_rdma and set(names) == {AUTO} else devices


def can_mark(devices: Iterable[NicDevice]) -> bool:
    """Whether UCX can tell the network the class of packets: those of its TCP it cannot mark, and one agent will do.

    Args: devices: that UCX may use.
    """
    return any(device.rdma_up for device in devices)


def nearest_nics(gpus: Sequence[PciPlace], nics: Sequence[NicDevice]) -> list[tuple[NicDevice, Distance]]:
    """For each GPU the device with the fewest steps between; of equally near ones the least used, then the fastest."""
    uses: Counter[str] = Counter()
    found = []
    for gpu in gpus:

        def cost(nic: NicDevice, gpu: PciPlace = gpu) -> tuple[int, int, int, int, str]:
            steps = shared_steps(gpu, nic.place) if nic.place else 0
            return distance(gpu, nic.place), -steps, uses[nic.name], -(nic.rate_bps or 0), nic.name

        best = min(nics, key=cost)
        uses[best.name] += 1
        found.append((best, distance(gpu, best.place)))
    return found


def both_roles(snic: NicChoice, carriers: Iterable[NicDevice | None]) -> str | None:
    """A sentence when storage and compute traffic share a device, which section 5 keeps apart.

    Args: carriers: the devices that copies between nodes go over.
    """
    if snic.device is None or snic.device not in carriers:
        return None
    return f"{snic.name} is storage NIC and compute NIC at once: reads and copies between nodes share its rate"


def _described(nic: NicDevice) -> str:
    rdma = f"RDMA {nic.rdma}, " if nic.rdma and nic.rdma != nic.name else ""
    return f"{nic.name} ({rdma}{nic.address or 'no address'})"
