"""Whether commands print what a document shows of them, whatever the numbers."""

import re

# What differs from run to run: ids, numbers and units of time. ``...`` is what the document leaves out of a line.
_VARIES = re.compile(r"(\.\.\.|raysubmit_\w+|\b[0-9a-f]{8}-\d+\b|\d[\d,.:]*(?:\s+(?:ms|s|min)\b)?|\s+)")
_NUMBER = r"\d[\d,.:]*(?:\s+(?:ms|s|min)\b)?"


def first_missing(shown: str, printed: str) -> str | None:
    """The first line that a document shows and that is not printed after those before it; None: all are."""
    for line in shown.splitlines():
        if line.strip() in ("", "..."):
            continue
        found = _pattern(line).search(printed)
        if found is None:
            return line
        printed = printed[found.end() :]  # a long line of the output may be several of the document
    return None


def _pattern(line: str) -> re.Pattern[str]:
    parts = []
    for part in _VARIES.split(line.strip()):
        if part == "...":
            parts.append(".*")
        elif part.startswith("raysubmit_"):
            parts.append(r"raysubmit_\w+")
        elif re.fullmatch(r"[0-9a-f]{8}-\d+", part):
            parts.append(r"[0-9a-f]{8}-\d+")
        elif re.fullmatch(_NUMBER, part):
            parts.append(_NUMBER)
        elif part and part.isspace():
            parts.append(r"\s+")
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))
