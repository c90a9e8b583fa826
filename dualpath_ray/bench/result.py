"""The file of a benchmark: its figures, and what they were measured with."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from dualpath_ray.ops.versions import versions


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write ``result`` with the command and the versions of this run beside it."""
    about = {"command": shlex.join(["dualpath", *sys.argv[1:]]), "versions": versions()}
    path.write_text(json.dumps({**about, **result}, indent=1) + "\n")
