"""Every notebook runs from top to bottom, asserts what it finds, and holds the outputs that it has now."""

import ast
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from tests.slow.notebooks import NOTEBOOKS, ROOT, execute

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LIVE = "04_inspect_a_live_cluster"  # what it measures differs from run to run
ENDED_S = 20.0
MACHINES = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|usr|opt|var)/\S+")  # paths that another reader does not have
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(notebook: Any) -> list[list[str]]:
    """The words of each code cell's outputs: of a picture, the sentence that tells what it shows."""
    return [[_words(output) for output in cell.outputs] for cell in code_cells(notebook)]


def _words(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    titles = re.findall("<title>(.*?)</title>", output.data.get("image/svg+xml", ""))
    return titles[0] if titles else str(output.data["text/plain"])


def processes_of(temporary: Path) -> Iterator[psutil.Process]:
    """Those that the kernel of this directory has started, and it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has ended, or is somebody else's
            if process.environ().get("TMPDIR") == str(temporary):
                yield process


def test_there_are_four() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@notebooks
def test_each_result_is_there_and_asserted(path: Path) -> None:
    text = path.read_text()
    assert str(ROOT) not in text and not MACHINES.findall(text)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.startswith("# ") and notebook.cells[-1].source.startswith("**Answer.**")
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "make notebooks"
    for cell in cells[1:]:  # the first one imports
        assert cell.outputs, "make notebooks"
        assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source))), cell.source
    assert any("image/svg+xml" in output.get("data", {}) for cell in cells for output in cell.outputs)


@notebooks
def test_it_runs_and_says_what_it_said(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dp-nb-", ignore_cleanup_errors=True) as folder:
        temporary = Path(folder)
        shared = set(Path("/dev/shm").iterdir())
        fresh = execute(path, temporary)
        assert psutil.wait_procs(list(processes_of(temporary)), ENDED_S)[1] == []
        assert not [each for each in set(Path("/dev/shm").iterdir()) - shared if "notebook" in each.name]
        assert not list(temporary.glob("dp-*")), "directories of Ray and of the store"
    committed = nbformat.read(path, as_version=4)
    if path.stem == LIVE:
        assert [len(words) for words in said(fresh)] == [len(words) for words in said(committed)]
    else:
        assert said(fresh) == said(committed), "make notebooks"
