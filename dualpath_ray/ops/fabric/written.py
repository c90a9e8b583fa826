"""Compares files that were written earlier with what the configuration gives now."""

from collections import Counter
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.ops.fabric.files import FabricFile, is_ours
from dualpath_ray.ops.fabric.finding import Finding, Verdict

_REMEDY = "write it anew with --out"
_KEPT = 3  # of many lines


def compare_written(path: Path, files: list[FabricFile]) -> list[Finding]:
    """Args:   path: a directory that ``--out`` wrote, or one file of it; files: what the configuration gives.
    Raises: ConfigError when it is not there, or has a file that this command did not write.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or directory; name what --out wrote")
    wanted = {file.name: file for file in files}
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    if not entries:
        raise ConfigError(f"{path}: it is empty; name a directory that --out wrote")
    for entry in entries:
        if not is_ours(entry):
            raise ConfigError(
                f"{entry}: `dualpath fabric` did not write it, so it cannot be compared; name what --out wrote"
            )
        if entry.name not in wanted:
            raise ConfigError(f"{entry}: it is of another kind of network than is configured; give --kind")
    names = [file.name for file in files] if path.is_dir() else [path.name]
    there = {entry.name: entry for entry in entries}
    return [_compare(wanted[name], there.get(name)) for name in names]


def _compare(wanted: FabricFile, found: Path | None) -> Finding:
    if found is None:
        return Finding(wanted.name, "it is not there", Verdict.DIFFERS, _REMEDY)
    now, then = Counter(_lines(wanted.text)), Counter(_lines(found.read_text(errors="replace")))
    wrong = [f"it lacks '{line}'" for line in (now - then)] + [f"it has '{line}'" for line in (then - now)]
    if not wrong:
        return Finding(wanted.name, "as configured", Verdict.SAME)
    more = f", and {len(wrong) - _KEPT} more" if len(wrong) > _KEPT else ""
    return Finding(wanted.name, ", ".join(wrong[:_KEPT]) + more, Verdict.DIFFERS, _REMEDY)


def _lines(text: str) -> list[str]:
    """What counts: not comments, not spaces."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
