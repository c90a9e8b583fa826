"""NIXL as this package uses it: quiet, and without the progress thread, which keeps a core busy while nothing moves."""

import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dualpath_ray.base.mark import Mark

_SPIN_S = 2e-4  # a transfer that takes no longer is met while polling without a pause
_MOST_PAUSE_S = 1e-3
_LOST = "nixlRemoteDisconnectError"  # UCX has closed the connection, and with it ended all that went over it
_environment = threading.RLock()


class NixlMissingError(Exception):
    """The library or one of its plugins is not here; the message says which, and what to install."""


class NixlFailedError(Exception):
    """A transfer failed, and none of its bytes moves any more."""


class NixlUnendedError(NixlFailedError):
    """A transfer failed whose bytes may still move until its agent has ended: NIXL's cancelling does not stop them."""


class NixlReportedError(NixlUnendedError):
    """The library itself reported the failure: what failed has ended, and only other ranges of the transfer may move."""


def make_agent(
    name: str,
    plugin: str,
    options: dict[str, str] | None = None,
    device: str | None = None,
    mark: Mark | None = None,
) -> Any:
    """An agent with one plugin, e.g. UCX or POSIX.

    Args:   device: network devices that UCX may use, as it names them: ``eth0``, ``mlx5_0:1``; None for all. mark: of its
            packets, over what this process' environment says; None: what UCX chooses.
    Raises: NixlMissingError.
    """
    only = {"UCX_NET_DEVICES": device} if device else {}  # the plugin's own option takes InfiniBand devices only
    if mark is not None:
        only[mark.variable] = mark.value  # as an option of the plugin it would lose against a variable that is set
    try:
        # It prints what it does. stdout is the process's, as the environment is: one at a time.
        with ucx_environment(**only), contextlib.redirect_stdout(io.StringIO()):
            from nixl._api import nixl_agent, nixl_agent_config, nixl_thread_sync_t

            strict = nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT  # the default is for one thread
            agent = nixl_agent(name, nixl_agent_config(enable_prog_thread=False, backends=[], sync_mode=strict))
            agent.create_backend(plugin, options or {})
    except ImportError as error:
        raise NixlMissingError(f"the package nixl is missing ({error}); install dualpath-ray[nixl]") from error
    except Exception as error:  # its bindings raise classes of their own, without a common one
        on = f" on {device}" if device else ""
        raise NixlMissingError(
            f"NIXL has no working plugin {plugin}{on} here ({type(error).__name__}: {error})"
        ) from error
    return agent


@contextlib.contextmanager
def ucx_environment(**variables: str) -> Iterator[None]:
    """For agents made meanwhile: UCX reads its environment then. E.g. ``UCX_TLS="tcp,self"``."""
    with _environment:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def run_transfer(
    agent: Any,
    handle: Any,
    limit_s: float,
    meanwhile: Callable[[], None] = lambda: None,
    most_pause_s: float = _MOST_PAUSE_S,
) -> None:
    """Start a prepared transfer, and return when it is done. The handle is released.

    Args:   meanwhile: called between two looks at the state; what it raises ends the wait. most_pause_s: between them.
    Raises: NixlFailedError when the peer is lost; NixlReportedError for any other failure that the library reports;
        NixlUnendedError when ``limit_s`` have passed.
    """
    try:
        state = agent.transfer(handle)
        began, pause_s = time.perf_counter(), 0.0
        while state == "PROC":
            waited_s = time.perf_counter() - began
            if waited_s > limit_s:
                raise NixlUnendedError(f"the transfer did not end within {limit_s:g} s")
            if waited_s > _SPIN_S:
                pause_s = min(most_pause_s, pause_s * 1.5 or 2e-5)
                time.sleep(pause_s)
            meanwhile()
            state = agent.check_xfer_state(handle)
    except NixlFailedError:
        raise
    except Exception as error:  # see make_agent
        if type(error).__name__ == _LOST:
            raise NixlFailedError("the connection is lost") from error
        raise NixlReportedError(f"{type(error).__name__}: {error}") from error
    finally:
        with contextlib.suppress(Exception):
            agent.release_xfer_handle(handle)
        handle._agent = None  # who keeps the error keeps the handle, which must not keep the agent alive: see end_agent
    if state != "DONE":
        raise NixlReportedError(f"the transfer ended as {state}")


def end_agent(agent: Any) -> None:
    """Close all its connections: after this none of its transfers moves a byte, whoever still refers to ``agent``.

    No thread may be in a call of it, or call it again.
    """
    agent.agent = None
