"""Links of the documents lead somewhere, Python in them is Python, and what they show of a command is recognized."""

import re

import pytest

from tests.docs.blocks import DOCUMENTS
from tests.docs.output import first_missing
from tests.ray.nodes import ROOT

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ALL = [*DOCUMENTS, "ARCHITECTURE.md"]


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = (re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading) for heading in _HEADING.findall(without_blocks(text)))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", ALL)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for link in _LINK.findall(without_blocks(path.read_text())):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        to = (path.parent / file).resolve() if file else path
        assert to.exists(), f"{document}: {link}"
        assert not anchor or anchor in anchors(to.read_text()), f"{document}: {link}"


@pytest.mark.parametrize("document", ALL)
def test_python_is_python(document):
    for block in re.findall(r"^```python\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE):
        compile(block, document, "exec")


def test_what_a_document_shows_is_found_whatever_the_numbers():
    printed = "starting\n  d: took 12.5 s\nHit ratio      48.6 %\nJob 'raysubmit_Ab1' succeeded\nrequest 1a2b3c4d-6, attempt 1\n"
    shown = "...\n  d: took 80 ms\nHit ratio 3 %\nJob 'raysubmit_x' succeeded\nrequest 00000000-1, ...\n"
    assert first_missing(shown, printed) is None
    assert first_missing("Hit ratio 3 %\n  d: took 1 s\n", printed) == "  d: took 1 s", "in another order"
    assert first_missing("Miss ratio 3 %\n", printed) == "Miss ratio 3 %"
