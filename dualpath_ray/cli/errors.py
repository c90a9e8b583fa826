"""From an error to one sentence and an exit code."""

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from dualpath_ray.base.errors import ConfigError, DualPathError, RequestRefusedError, StoreFullError

OK, FAILED, BAD_INPUT, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def exit_code_of(call: Callable[[], Any]) -> int:
    """Run a command; what it raises on purpose is told in one sentence on stderr."""
    try:
        code = call()
    except click.ClickException as error:  # an option that click itself refuses
        error.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    except (ConfigError, RequestRefusedError, StoreFullError) as error:
        return _say(str(error), BAD_INPUT)
    except DualPathError as error:
        return _say(str(error), FAILED)
    return code if isinstance(code, int) else OK


def _say(sentence: str, code: int) -> int:
    click.echo(f"dualpath: {' '.join(sentence.split())}", err=True)
    return code


def clean_up_when_terminated() -> None:
    """Let a SIGTERM unwind as Ctrl-C does, so that nothing that was started stays behind."""

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, leave)
