"""What all written files have in common. Pure."""

from collections.abc import Iterable, Sequence

MARK = "Written by `dualpath fabric`"


def comment(*lines: str) -> list[str]:
    return [f"# {line}".rstrip() for line in lines]


def headed(kind: str, purpose: str, *more: str) -> list[str]:
    """The first lines of every file, by which it is known later."""
    return comment(
        f"{MARK} for {kind}; docs/fabric.md explains every line.",
        f"{purpose[0].upper()}{purpose[1:]}.",
        "Never tried on a real fabric: review it before you use it.",
        *more,
    )


def joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Columns as wide as their widest cell; the first one left, the others right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
