"""What a result was measured with."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from dualpath_ray import __version__

_PACKAGES = ("ray", "torch", "transformers", "numpy", "pyarrow", "safetensors", "xxhash")


def versions() -> dict[str, str]:
    """Packages, Python, the cores this process may use, and the processor."""
    packages = {name: version(name) for name in _PACKAGES}
    cores = str(len(os.sched_getaffinity(0)))
    python = platform.python_version()
    return {"dualpath_ray": __version__, **packages, "python": python, "cores": cores, "device": _device()}


def _device() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
