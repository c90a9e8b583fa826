"""Where a device stands on PCI Express, read from sysfs, and how far two of them are apart."""

import re
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_HOST_BRIDGE = re.compile(r"^pci[0-9a-f]{4,}:[0-9a-f]{2}$")
_FUNCTION = re.compile(r"^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
_DISPLAY_CLASSES = ("0x0300", "0x0302")  # VGA and 3D controllers
_NVIDIA = "0x10de"


@dataclass(frozen=True, slots=True)
class PciPlace:
    """``path``: host bridge, bridges, and the device last: ``("pci0000:00", "0000:00:01.0", "0000:01:00.0")``."""

    path: tuple[str, ...]
    numa_node: int | None = None  # None: the machine does not say

    @property
    def address(self) -> str:
        return self.path[-1]


class Distance(IntEnum):
    """From near to far; bytes between two devices cross what the name says."""

    SAME_SWITCH = 0
    SAME_HOST_BRIDGE = 1
    SAME_NUMA_NODE = 2
    ACROSS_SOCKETS = 3
    NOT_ON_PCIE = 4

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Distance.SAME_SWITCH: "same switch",
    Distance.SAME_HOST_BRIDGE: "same host bridge",
    Distance.SAME_NUMA_NODE: "same NUMA node",
    Distance.ACROSS_SOCKETS: "across sockets",
    Distance.NOT_ON_PCIE: "not on PCIe",
}


def shared_steps(one: PciPlace, other: PciPlace) -> int:
    """Host bridge and bridges that both are below."""
    count = 0
    for step, same in zip(one.path[:-1], other.path[:-1], strict=False):
        if step != same:
            break
        count += 1
    return count


def distance(one: PciPlace | None, other: PciPlace | None) -> Distance:
    """Pure. A machine that does not say its NUMA nodes has one."""
    if one is None or other is None:
        return Distance.NOT_ON_PCIE
    shared = shared_steps(one, other)
    if shared > 1:
        return Distance.SAME_SWITCH
    if shared == 1:
        return Distance.SAME_HOST_BRIDGE
    return Distance.SAME_NUMA_NODE if one.numa_node == other.numa_node else Distance.ACROSS_SOCKETS


def place_of(device: Path) -> PciPlace | None:
    """Of a device's entry in sysfs, or of one that is part of it (virtio, say). None when it is not on PCIe."""
    real = device.resolve()
    path = tuple(part for part in real.parts if _HOST_BRIDGE.match(part) or _FUNCTION.match(part))
    if not path or not _FUNCTION.match(path[-1]):
        return None
    function = next(p for p in (real, *real.parents) if p.name == path[-1])
    numa = read_int(function / "numa_node")
    return PciPlace(path, numa if numa is not None and numa >= 0 else None)


def read_gpus(sys: Path) -> list[PciPlace]:
    """NVIDIA's GPUs by PCI address, which needs no CUDA. ``sys``: where sysfs is."""
    found = []
    for device in sorted((sys / "bus/pci/devices").glob("*")):
        if read_text(device / "vendor") == _NVIDIA and (read_text(device / "class") or "").startswith(_DISPLAY_CLASSES):
            place = place_of(device)
            if place is not None:
                found.append(place)
    return found


def read_text(file: Path) -> str | None:
    """None when there is no such file, or the kernel refuses to say."""
    try:
        return file.read_text().strip()
    except OSError:
        return None


def read_int(file: Path) -> int | None:
    """None when there is no number."""
    try:
        return int(read_text(file) or "")
    except ValueError:
        return None
