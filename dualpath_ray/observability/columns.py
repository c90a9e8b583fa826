"""Rows as aligned columns of plain text."""

from collections.abc import Sequence


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A line for the header and one for each row; what is a number in every row stands to the right."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    right = [
        bool(rows) and all(row[column][:1].isdigit() or not row[column] for row in rows)
        for column in range(len(header))
    ]
    lines = []
    for row in table:
        cells = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
