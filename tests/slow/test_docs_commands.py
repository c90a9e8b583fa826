"""The documents' commands, carried out as a reader would: a document's blocks in order, in one shell, in a fresh checkout.

What a document shows of their output is there, too, whatever the numbers.
"""

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, PROGRAMS, TRANSLATIONS, Block, blocks_of
from tests.docs.output import first_missing
from tests.docs.shell import DocsError, ReadersShell, why_no_namespaces

pytestmark = pytest.mark.timeout(1200)
_BLOCK_S = 300.0  # a hung command ends after this; a busy machine takes several times what a quiet one does
_STARTS_RAY = re.compile(r"\b(ray\s+(start|stop)|dualpath\s+(up|down))\b")


def carried_out(document: str) -> list[Block]:
    """Of a translation none: its commands are the original's (tests/unit/cli/test_docs_commands.py)."""
    if document in TRANSLATIONS:
        return []
    return [block for block in blocks_of(document) if not block.left_out and block.text.strip()]


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if carried_out(document)])
def test_commands_of_a_document(document: str) -> None:
    blocks = carried_out(document)
    isolated = any(_STARTS_RAY.search(block.text) for block in blocks)
    if isolated and (reason := why_no_namespaces()):
        pytest.skip(reason)
    lacking = set()
    with (
        tempfile.TemporaryDirectory(prefix="dp-d-", ignore_cleanup_errors=True) as home,
        ReadersShell(Path(home), isolated) as shell,
    ):
        for block in blocks:
            program = PROGRAMS.get(block.mark or "")
            if program and shutil.which(program) is None:
                lacking.add(program)
                continue
            printed = shell.run(block, _BLOCK_S)
            missing = first_missing(block.prints, printed)
            assert missing is None, f"{block.where}: shows {missing!r}; printed:\n{printed[-4000:]}"
    if lacking:
        pytest.skip("; ".join(f"{program} is not here" for program in sorted(lacking)))


def test_a_failing_command_is_named(tmp_path: Path) -> None:
    with ReadersShell(tmp_path, isolated=False) as shell:
        shell.run(Block("a.md", 3, "export A=1\ncd docs\n", None), 30)
        shell.run(Block("a.md", 9, 'test "$A" = 1\ntest -f README.md\n', None), 30)
        with pytest.raises(DocsError, match=r"^a\.md:13: exit code 2 of: ls no-such"):
            shell.run(Block("a.md", 12, "true\nls no-such\ntrue\n", None), 30)


def test_a_command_that_hangs_is_named(tmp_path: Path) -> None:
    with (
        ReadersShell(tmp_path, isolated=False) as shell,
        pytest.raises(DocsError, match=r"^a\.md:3: took longer than 1 s"),
    ):
        shell.run(Block("a.md", 3, "sleep 30\n", None), 1)
