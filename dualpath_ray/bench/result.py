"""The file of a benchmark: its figures, and what they were measured with."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from dualpath_ray.ops.results_dir import writing_to
from dualpath_ray.ops.versions import versions


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write ``result`` with the command and the versions of this run beside it.

    Raises: ConfigError when the disk is full.
    """
    about = {"command": shlex.join(["dualpath", *sys.argv[1:]]), "versions": versions()}
    with writing_to(path.parent):
        path.write_text(json.dumps({**about, **result}, indent=1) + "\n")
