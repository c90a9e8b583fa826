"""Logs of a system's actors, from wherever they run: Ray's dashboard knows the way."""

from collections.abc import Iterator
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.cluster.attach import actors_of

_MARKS = (":job_id:", ":actor_name:", ":task_name:")  # of Ray's, for itself


def log_lines(name: str, actor: str | None, tail: int, follow: bool = False) -> Iterator[tuple[str, str]]:
    """(actor, line) of one actor or of all, each actor's in order: what they print, then their errors.

    Args:   actor: its name or the beginning of it; tail: the last lines of each; -1: all. follow: of one actor, without end.
    Where a log cannot be had, a line in brackets says why.

    Raises: ConfigError when there is no such actor.
    """
    actors = actors_of(name)
    chosen = {each: handle for each, handle in actors.items() if actor is None or each.startswith(actor)}
    if not chosen:
        raise ConfigError(f"actor: {name} has none that begins with {actor!r}; it has {', '.join(sorted(actors))}")
    if follow and len(chosen) != 1:
        raise ConfigError(f"--follow: name one actor, not {', '.join(sorted(chosen))}")
    for each, handle in sorted(chosen.items()):
        for suffix in ("out",) if follow else ("out", "err"):
            for line in _lines(handle, suffix, tail, follow):
                if not line.startswith(_MARKS):
                    yield each, line


def _lines(handle: Any, suffix: str, tail: int, follow: bool) -> Iterator[str]:
    from ray.util.state import get_log

    rest = ""
    try:
        for part in get_log(actor_id=handle._actor_id.hex(), suffix=suffix, tail=tail, follow=follow, errors="replace"):
            *lines, rest = (rest + part).split("\n")
            yield from lines
    except Exception as error:  # Ray's state API raises plain ones
        if "not find" in str(error) or "No such" in str(error):  # nothing was printed there
            return
        reason = " ".join(str(error).split())[:200]
        yield f"(no log: Ray's dashboard does not tell it: {reason})"
        return
    if rest:
        yield rest


def metrics_pages(timeout_s: float = 5.0) -> dict[str, str]:
    """What every Ray node tells Prometheus, by the node's address; a sentence where it does not answer."""
    from urllib.request import urlopen

    pages = {}
    for node in ray.nodes():
        if not node["Alive"]:
            continue
        where = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        try:
            with urlopen(f"http://{where}/metrics", timeout=timeout_s) as answer:
                pages[where] = answer.read().decode(errors="replace")
        except OSError as error:
            pages[where] = f"# no answer: {error}\n"
    return pages
