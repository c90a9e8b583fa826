"""The live page served by the system itself: a detached actor of its namespace, on the head node."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from dualpath_ray.base.errors import ConfigError, SystemDiedError
from dualpath_ray.cluster.asking import ANSWER_S, first_line, wait_for
from dualpath_ray.cluster.page import PAGE_NAME, page_of
from dualpath_ray.cluster.placement import on_head
from dualpath_ray.ui.access import Access, needs_token
from dualpath_ray.ui.feed import Feed
from dualpath_ray.ui.server import PageServer
from dualpath_ray.ui.watch import RunningSystem

_START_S = 60.0


class LivePage:
    """Starts serving when it is made, and again wherever Ray restarts it."""

    def __init__(self, system: str, host: str, port: int, token: str | None, runs: str) -> None:
        """Raises: ConfigError when the port cannot be had."""
        self._host, self._token = host, token
        self._server = PageServer(RunningSystem(system), Feed(time.time), Access(host, token), port, Path(runs))

    def address(self) -> str:
        """Without the token."""
        return address_of(self._host, self._server.port)

    def link(self) -> str:
        """With the token, if it has one: whoever can ask this can do all to the system anyway."""
        return self.address() + (f"?token={self._token}" if self._token else "")


def address_of(host: str, port: int) -> str:
    """Of a page that listens there, for a browser: where it listens everywhere, by the address of this Ray node."""
    shown = ray.util.get_node_ip_address() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"


def start_page(system: str, host: str, port: int, token: str | None, runs: str) -> str:
    """Let a system serve its page. Returns: the link; that of the page which it serves already, where it does.

    Args:   token: None makes one up where others than the head node reach the page; runs: a directory of the head node.
    Raises: ConfigError when the port cannot be had; SystemDiedError.
    """
    page = page_of(system)
    if page is None:
        if token is None and needs_token(host):
            token = secrets.token_urlsafe(18)
        page = _page(system, host, port, token, runs, "detached")
    link: str = wait_for([page.link.remote()], "the live page", _START_S)[0]
    return link


@contextmanager
def page_within(system: str, host: str, port: int, token: str | None, runs: str) -> Iterator[str]:
    """The same for a system that ends with this program, and so does the page. Yields: the address, without the token.

    Raises: ConfigError when the port cannot be had, or others than the head node reach the page and no token is given;
        SystemDiedError.
    """
    if token is None and needs_token(host):
        raise ConfigError(f"ui.host: {host} is reached by others: set DUALPATH_UI_TOKEN, which the page then asks for")
    page = _page(system, host, port, token, runs, None)
    try:
        try:
            address = str(wait_for([page.address.remote()], "the live page", _START_S)[0])
        except ray.exceptions.RayError as error:  # its environment cannot be had on the head, say
            raise SystemDiedError(f"the live page did not start: {first_line(error)}") from error
        yield address
    finally:
        with suppress(ray.exceptions.RaySystemError):  # Ray is gone: then it is, too
            ray.kill(page)


def _page(system: str, host: str, port: int, token: str | None, runs: str, lifetime: str | None) -> Any:
    kind = ray.remote(num_cpus=0, max_concurrency=4, max_restarts=-1)(LivePage)
    options: dict[str, Any] = {"name": PAGE_NAME, "namespace": system, "lifetime": lifetime, **on_head()}
    return kind.options(**options).remote(system, host, port, token, runs)


def page_link(system: str) -> str | None:
    """Of the page that a system serves; None where it serves none."""
    page = page_of(system)
    return None if page is None else str(wait_for([page.link.remote()], "the live page", ANSWER_S)[0])
