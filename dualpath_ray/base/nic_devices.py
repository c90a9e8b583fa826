"""The network devices and GPUs of this host, as the kernel shows them."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from dualpath_ray.base.pci import PciPlace, place_of, read_gpus, read_int, read_text

SYS, DEV = Path("/sys"), Path("/dev")
_ETHERNET_STEP_BPS = 10**6  # ``speed`` counts megabits
_RDMA_RATE = re.compile(r"^([0-9.]+) Gb/sec")  # "100 Gb/sec (4X EDR)"


@dataclass(frozen=True, slots=True)
class NicDevice:
    """One port of a NIC. ``name`` is that of its network interface; of an RDMA device that has none, its own."""

    name: str
    rdma: str | None = None  # mlx5_0, where this process may open it
    addresses: tuple[str, ...] = ()  # IPv4
    rate_bps: int | None = None  # of the link; None: the driver does not say
    up: bool = False  # the interface, where there is one
    driver: str | None = None
    place: PciPlace | None = None
    rdma_port: int = 1
    rdma_up: bool = False  # that port: on InfiniBand it needs no interface that is up

    @property
    def address(self) -> str | None:
        return self.addresses[0] if self.addresses else None

    @property
    def ucx_name(self) -> str:
        """As UCX knows it: ``mlx5_0:1``, or of TCP ``eth0``."""
        return f"{self.rdma}:{self.rdma_port}" if self.rdma else self.name

    @property
    def is_loopback(self) -> bool:
        return any(address.startswith("127.") for address in self.addresses)

    def is_named(self, name: str) -> bool:
        return name in (self.name, self.rdma, self.ucx_name)


@dataclass(frozen=True, slots=True)
class HostDevices:
    """What a choice of NICs is made from. GPUs in the order of their PCI addresses, NICs in that of their names."""

    nics: tuple[NicDevice, ...] = ()
    gpus: tuple[PciPlace, ...] = ()

    def named(self, name: str) -> NicDevice | None:
        return next((nic for nic in self.nics if nic.is_named(name)), None)

    def carrying(self, address: str) -> NicDevice | None:
        """The one that has this address."""
        return next((nic for nic in self.nics if address in nic.addresses), None)


def read_devices(sys: Path = SYS, addresses: Mapping[str, Sequence[str]] | None = None, dev: Path = DEV) -> HostDevices:
    """Args: sys, dev: where sysfs and the device files are; addresses: IPv4 addresses by interface; None asks the kernel."""
    known = ipv4_addresses() if addresses is None else addresses
    devices = _rdma_devices(sys, dev)
    rdma_of = _rdma_by_interface(sys, devices)
    interfaces = [path for path in (sys / "class/net").glob("*") if path.is_dir()]  # bonding_masters is a file
    nics = [_interface(path, rdma_of.get(path.name), known.get(path.name, ())) for path in interfaces]
    without = set(devices) - {rdma.name for rdma in rdma_of.values()}
    nics += [_rdma_only(sys / "class/infiniband" / name) for name in without]
    return HostDevices(tuple(sorted(nics, key=lambda nic: nic.name)), tuple(read_gpus(sys)))


def ipv4_addresses() -> dict[str, list[str]]:
    """Of each interface of this process' network namespace."""
    return by_interface(
        {
            label: [entry.address for entry in entries if entry.family == socket.AF_INET]
            for label, entries in psutil.net_if_addrs().items()
        }
    )


def by_interface(by_label: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """An interface's further addresses may have labels of their own: eth0:1. Pure."""
    found: dict[str, list[str]] = {}
    for label, addresses in by_label.items():
        found.setdefault(label.partition(":")[0], []).extend(addresses)
    return found


def address_towards(host: str) -> str | None:
    """This host's address on the route to another; no packet is sent. None when there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # the port of discard: any would do
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return address


def _interface(path: Path, rdma: Path | None, addresses: Sequence[str]) -> NicDevice:
    speed = read_int(path / "speed")  # -1, or no answer, where the driver knows none
    port = _rdma_port(path, rdma) if rdma else 1
    rate = _rdma_rate_bps(rdma, port) if rdma else None
    hardware = next((entry for entry in (path, rdma) if entry and (entry / "device").exists()), path)  # a bond has none
    return NicDevice(
        name=path.name,
        rdma=rdma.name if rdma else None,
        rdma_port=port,
        rdma_up=rdma is not None and _rdma_up(rdma, port),
        addresses=tuple(addresses),
        rate_bps=rate or (speed * _ETHERNET_STEP_BPS if speed and speed > 0 else None),
        up=read_text(path / "operstate") in ("up", "unknown"),  # virtual ones may not know
        driver=_driver(hardware),
        place=place_of(hardware / "device") if (hardware / "device").exists() else None,
    )


def _rdma_only(path: Path) -> NicDevice:
    up = _rdma_up(path, 1)
    return NicDevice(
        name=path.name,
        rdma=path.name,
        rate_bps=_rdma_rate_bps(path, 1),
        up=up,
        rdma_up=up,
        driver=_driver(path),
        place=place_of(path / "device"),
    )


def _rdma_devices(sys: Path, dev: Path) -> list[str]:
    """Those that this process may open: sysfs shows a container all of its host's."""
    verbs = (sys / "class/infiniband_verbs").glob("uverbs*")
    return sorted(
        name for path in verbs if (name := read_text(path / "ibdev")) and _opens(dev / "infiniband" / path.name)
    )


def _opens(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_RDWR))  # a container may be refused what its permissions would let it open
    except OSError:
        return False
    return True


def _rdma_by_interface(sys: Path, devices: Sequence[str]) -> dict[str, Path]:
    """Interface -> entry of its RDMA device. That of bonded interfaces is the bond's, which has their address."""
    root = sys / "class/infiniband"
    found = {net.name: root / name for name in devices for net in (root / name / "device/net").glob("*")}
    for slaves in (sys / "class/net").glob("*/bonding/slaves"):
        under = [found.pop(name) for name in (read_text(slaves) or "").split() if name in found]
        if under:
            found[slaves.parts[-3]] = under[0]
    return found


def _rdma_port(interface: Path, rdma: Path) -> int:
    """Which port of the RDMA device an interface is, where one has several (mlx4)."""
    port = (read_int(interface / "dev_port") or 0) + 1
    return port if (rdma / f"ports/{port}").exists() else 1


def _rdma_rate_bps(path: Path, port: int) -> int | None:
    match = _RDMA_RATE.match(read_text(path / f"ports/{port}/rate") or "")
    return int(float(match.group(1)) * 1e9) if match else None


def _rdma_up(path: Path, port: int) -> bool:
    return "ACTIVE" in (read_text(path / f"ports/{port}/state") or "")


def _driver(path: Path) -> str | None:
    link = path / "device/driver"
    return link.resolve().name if link.exists() else None
