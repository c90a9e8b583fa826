"""Options of commands that are about a running system."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def of_a_system(command: F) -> F:
    """``--name`` and ``--address``."""
    command = click.option("--name", help="Name of the system; needed where several run.")(command)
    return click.option(
        "--address", help="Ray cluster that it runs on.  [default: RAY_ADDRESS, or that of this machine]"
    )(command)
