"""``dualpath debug-bundle``: what somebody needs to look into a system from afar, without secrets."""

import io
import json
import os
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from dualpath_ray.base.errors import ConfigError, DualPathError
from dualpath_ray.cluster.attach import facts_of, the_system
from dualpath_ray.cluster.decisions import decisions_of
from dualpath_ray.cluster.logs import log_lines, metrics_pages
from dualpath_ray.cluster.page import page_address
from dualpath_ray.cluster.status import take_sample
from dualpath_ray.cluster.status_json import status_of
from dualpath_ray.ops.doctor.report import as_json, examine
from dualpath_ray.ops.lifecycle.redact import redact, secrets_of
from dualpath_ray.ops.versions import versions

_TAIL = 5000  # lines of each log, and decisions
_BETWEEN_S = 1.0


def write_bundle(name: str | None, out: Path | None) -> tuple[Path, list[str]]:
    """Write a ``.tar.gz`` of the system that runs on the cluster that this process is in.

    Returns: its path; and a sentence for each part that could not be had, which the bundle holds too.
    Raises:  ConfigError when there is no such system, or the file cannot be written.
    """
    name = the_system(name)
    path = out or Path(f"{name}-debug-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    missing: list[str] = []
    parts: dict[str, str] = {}

    def add(part: str, make: Callable[[], str]) -> None:
        try:
            parts[part] = make()
        except (DualPathError, OSError) as error:  # what can still be had is the more needed
            missing.append(f"{part}: {error}")

    add("status.json", lambda: _json(_status(name)))
    add("config.yaml", lambda: _config(name))
    add("versions.json", lambda: _json(versions()))
    add("doctor.json", lambda: _json(as_json(examine(None, None))))
    add("decisions.jsonl", lambda: _decisions(name))
    try:
        logs: dict[str, list[str]] = defaultdict(list)
        for actor, line in log_lines(name, None, _TAIL):
            logs[actor].append(line)
        parts |= {f"logs/{actor.replace('/', '-')}.log": "\n".join(lines) + "\n" for actor, lines in logs.items()}
    except DualPathError as error:
        missing.append(f"logs: {error}")
    for where, page in metrics_pages().items():
        parts[f"metrics/{where.replace(':', '-')}.txt"] = page
    if missing:
        parts["missing.txt"] = "\n".join(missing) + "\n"
    secrets = secrets_of(os.environ) | _token()
    try:
        _write(path, name, {part: redact(text, secrets) for part, text in parts.items()})
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error.strerror}") from error
    return path.resolve(), missing


def _status(name: str) -> dict[str, Any]:
    before = take_sample(name)
    time.sleep(_BETWEEN_S)
    return status_of(before, take_sample(name), name, page_address(name))


def _config(name: str) -> str:
    config = take_sample(name).facts.plan.config
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _decisions(name: str) -> str:
    scheduler, _ = facts_of(name)
    return "".join(json.dumps(record) + "\n" for record in decisions_of(scheduler, 0, _TAIL))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _token() -> set[str]:
    """Of this user's, which Ray keeps in a file."""
    try:
        return {(Path.home() / ".ray" / "auth_token").read_text().strip()} - {""}
    except OSError:
        return set()


def _write(path: Path, name: str, parts: dict[str, str]) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for part, text in sorted(parts.items()):
            data = text.encode()
            entry = tarfile.TarInfo(f"{name}-debug/{part}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
