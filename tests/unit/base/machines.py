"""Folders that look like sysfs."""

from pathlib import Path


class FakeSys:
    """A sysfs of one host under ``root``; what is added shows up as the kernel would show it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pci(self, path: str, numa: int = 0, **files: str) -> Path:
        """A PCI function at ``pci0000:00/0000:00:01.0/0000:01:00.0``, with files such as vendor and class."""
        real = self.root / "devices" / path
        self._write(real / "numa_node", str(numa))
        for name, text in files.items():
            self._write(real / name, text)
        self._link(self.root / "bus/pci/devices" / real.name, real)
        return real

    def gpu(self, path: str, numa: int = 0) -> None:
        self.pci(path, numa, vendor="0x10de", **{"class": "0x030200"})

    def nic(
        self,
        name: str,
        path: str | None = None,
        numa: int = 0,
        speed: int | None = None,
        rdma: str | None = None,
        port: int = 1,
        operstate: str = "up",
    ) -> None:
        """An interface, at ``path`` if it is on PCIe, with an RDMA device, on a port of that, if it is named."""
        if path is None:
            entry = self.root / "devices/virtual/net" / name
        else:
            function = self.pci(path, numa)
            entry = function / "net" / name
            self._write(entry / "keep", "")
            self._link(entry / "device", function)
            self._link(function / "driver", self._folder(self.root / "bus/pci/drivers/mlx5_core"))
            if rdma:
                self.rdma(rdma, path, numa, port=port)
                self._write(entry / "dev_port", str(port - 1))
        self._write(entry / "operstate", operstate)
        if speed is not None:
            self._write(entry / "speed", str(speed))
        self._link(self.root / "class/net" / name, entry)

    def bond(self, name: str, *slaves: str) -> None:
        self.nic(name)
        self._write(self.root / "class/net" / name / "bonding/slaves", " ".join(slaves))
        self._write(self.root / "class/net/bonding_masters", name)

    def rdma(self, name: str, path: str, numa: int = 0, rate: str = "400 Gb/sec (4X NDR)", port: int = 1) -> None:
        """Its device file can be opened under ``dev``."""
        function = self.pci(path, numa)
        entry = function / "infiniband" / name
        self._write(entry / f"ports/{port}/rate", rate)
        self._write(entry / f"ports/{port}/state", "4: ACTIVE")
        self._link(entry / "device", function)
        self._link(self.root / "class/infiniband" / name, entry)
        self._write(self.root / f"class/infiniband_verbs/uverbs_of_{name}/ibdev", name)
        self._write(self.root / f"dev/infiniband/uverbs_of_{name}", "")

    def _write(self, file: Path, text: str) -> None:
        self._folder(file.parent)
        file.write_text(f"{text}\n")

    def _folder(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _link(self, at: Path, to: Path) -> None:
        self._folder(at.parent)
        if not at.is_symlink():
            at.symlink_to(to)
