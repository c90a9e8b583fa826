"""Runs the notebooks from top to bottom: ``make notebooks`` writes what comes out of them, ``test_notebooks.py`` checks it."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_S = 240  # that a cell may take
END_S = 30  # that a kernel may take to end, with the system that a cell which failed has left up
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels with the interpreter that runs this, whatever kernels are registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def execute(path: Path, temporary: Path) -> Any:
    """The notebook with fresh outputs; nothing is written beside it.

    Args:   temporary: where the kernel's temporary files go, in a path short enough for Ray's sockets.
    Raises: CellExecutionError when a cell fails, CellTimeoutError when one takes longer than ``CELL_S``.
    """
    folder = temporary / "notebooks"
    folder.mkdir()
    for each in ("cluster_configs", "docs"):
        (temporary / each).symlink_to(ROOT / each)
    kernel = {
        "TMPDIR": str(temporary),
        "IPYTHONDIR": str(temporary / "ipython"),  # no start-up files or history of the user
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    notebook = nbformat.read(path, as_version=4)
    manager = ThisInterpreter(
        transport="ipc",  # files that only this user may open, no ports
        ip=str(temporary / "kernel"),
        shutdown_wait_time=END_S,
    )
    client = NotebookClient(
        notebook,
        manager,
        timeout=CELL_S,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}  # no Ray of somebody's
    client.execute(env={**outside, **kernel}, cleanup_kc=True)
    return _settled(notebook)


def _settled(notebook: Any) -> Any:
    """Without what differs from machine to machine: versions, and what libraries write to the standard error stream."""
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return notebook


def main(names: Sequence[str]) -> int:
    """Run these notebooks, or all, and write their outputs into them. Args: names: file names without ``.ipynb``."""
    for path in NOTEBOOKS:
        if not names or path.stem in names:
            with tempfile.TemporaryDirectory(prefix="dp-nb-", ignore_cleanup_errors=True) as temporary:
                notebook = execute(path, Path(temporary))
            nbformat.write(notebook, path)
            print(f"notebooks: {path.relative_to(ROOT)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
