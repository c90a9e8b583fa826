"""Where results go."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dualpath_ray.base.errors import ConfigError


def make_out(out: Path) -> None:
    """Raises: ConfigError when results cannot be written there."""
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """A directory or disk that takes no results ends in one sentence."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--out: {out} cannot be written: {error.strerror or error}; name another directory, or free some space"
        ) from error
