"""The file of a benchmark: its figures, and what they were measured with."""

import json
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from dualpath_ray.ops.rollout import versions


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write ``result`` with the command, the device and the versions of this run beside it."""
    about = {"command": shlex.join(["dualpath", *sys.argv[1:]]), "device": device(), "versions": versions()}
    path.write_text(json.dumps({**about, **result}, indent=1) + "\n")


def device() -> str:
    """The processor of this machine, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
