"""What a result was measured with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dualpath_ray import __version__

_PACKAGES = ("ray", "torch", "transformers", "numpy", "pyarrow", "safetensors", "xxhash")


def versions() -> dict[str, str]:
    """Packages, Python, the cores this process may use, and the processor."""
    packages = {name: found for name in _PACKAGES if (found := _version(name))}
    cores = str(len(os.sched_getaffinity(0)))
    python = platform.python_version()
    return {"dualpath_ray": __version__, **packages, "python": python, "cores": cores, "device": _device()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _device() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
