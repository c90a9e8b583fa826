"""What a shell would print to an agent that explores the Python standard library of this machine."""

import sysconfig
from functools import cached_property
from pathlib import Path

import numpy as np

from dualpath_ray.base.errors import ConfigError

# Third-party code, caches, tables of data, and folders that are large, generated or absent on some systems.
SKIPPED_FOLDERS = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
}
MIN_SOURCE_BYTES = 4000
LISTED_FILES = 40
READ_LINES = 80


class StandardLibrary:
    """The Python sources under one root, and the commands that read them; sorted, so the same on every run."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or Path(sysconfig.get_path("stdlib"))

    @cached_property
    def files(self) -> list[Path]:
        """Sources worth reading, relative to the root. Raises: ConfigError when there are none."""
        found = sorted(
            path.relative_to(self._root)
            for path in self._root.rglob("*.py")
            if not SKIPPED_FOLDERS.intersection(path.relative_to(self._root).parts)
            and path.stat().st_size >= MIN_SOURCE_BYTES
        )
        if not found:
            raise ConfigError(f"trace code-reading: no Python sources in {self._root}; give a trace file with --trace")
        return found

    def lines(self, path: Path) -> list[str]:
        return (self._root / path).read_text(encoding="utf-8", errors="replace").splitlines()

    def list_folder(self, folder: Path) -> str:
        """``ls -1p`` of a folder, at most LISTED_FILES names of it."""
        names = sorted(
            entry.name + ("/" if entry.is_dir() else "")
            for entry in (self._root / folder).iterdir()
            if entry.name not in SKIPPED_FOLDERS
        )
        return "\n".join([f"$ ls -1p {folder} | head -n {LISTED_FILES}", *names[:LISTED_FILES]])

    def search(self, path: Path, word: str) -> str:
        """``grep -n`` of a word in one file."""
        hits = [f"{number}:{line}" for number, line in enumerate(self.lines(path), start=1) if word in line]
        return "\n".join([f"$ grep -n '{word}' {path}", *hits])

    def read(self, path: Path, first_line: int) -> str:
        """``sed -n`` of READ_LINES lines from ``first_line`` (the first line is 1)."""
        last_line = first_line + READ_LINES - 1
        return "\n".join(
            [f"$ sed -n '{first_line},{last_line}p' {path}", *self.lines(path)[first_line - 1 : last_line]]
        )

    def command(self, focus: Path, rng: np.random.Generator) -> str:
        """The output of one command that an agent interested in ``focus`` would run next."""
        kind = rng.choice(["read", "search", "list"], p=[0.7, 0.2, 0.1])
        if kind == "list":
            return self.list_folder(focus.parent)
        if kind == "search":
            return self.search(focus, str(rng.choice(["def ", "class ", "import ", "raise ", "return ", "self._"])))
        return self.read(focus, 1 + int(rng.integers(max(1, len(self.lines(focus)) - READ_LINES // 2))))
