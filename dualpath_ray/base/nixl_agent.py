"""NIXL as this package uses it: quiet, and without the progress thread, which keeps a core busy while nothing moves."""

import contextlib
import io
import time
from typing import Any

_SPIN_S = 2e-4  # a transfer that takes no longer is met while polling without a pause
_MOST_PAUSE_S = 1e-3


class NixlMissingError(Exception):
    """The library or one of its plugins is not here; the message says which, and what to install."""


class NixlFailedError(Exception):
    """A transfer failed."""


def make_agent(name: str, plugin: str, options: dict[str, str] | None = None) -> Any:
    """An agent with one plugin, e.g. UCX or POSIX.

    Raises: NixlMissingError.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            from nixl._api import nixl_agent, nixl_agent_config, nixl_thread_sync_t

            strict = nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT  # the default is for one thread
            agent = nixl_agent(name, nixl_agent_config(enable_prog_thread=False, backends=[], sync_mode=strict))
            agent.create_backend(plugin, options or {})
    except ImportError as error:
        raise NixlMissingError(f"the package nixl is missing ({error}); install dualpath-ray[nixl]") from error
    except Exception as error:  # its bindings raise classes of their own, without a common one
        raise NixlMissingError(f"NIXL has no working plugin {plugin} here ({type(error).__name__}: {error})") from error
    return agent


def run_transfer(agent: Any, handle: Any) -> None:
    """Start a prepared transfer, and return when it is done. The handle is released.

    Raises: NixlFailedError.
    """
    try:
        state = agent.transfer(handle)
        began, pause_s = time.perf_counter(), 0.0
        while state == "PROC":
            if pause_s or time.perf_counter() - began > _SPIN_S:
                pause_s = min(_MOST_PAUSE_S, pause_s * 1.5 or 2e-5)
                time.sleep(pause_s)
            state = agent.check_xfer_state(handle)
    except Exception as error:  # see make_agent
        raise NixlFailedError(f"{type(error).__name__}: {error}") from error
    finally:
        with contextlib.suppress(Exception):
            agent.release_xfer_handle(handle)
    if state != "DONE":
        raise NixlFailedError(f"the transfer ended as {state}")
