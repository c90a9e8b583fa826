"""``dualpath ui``: the live page of a system, served by it or by this process."""

import secrets
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dualpath_ray.base.errors import DualPathError
from dualpath_ray.cluster.attach import the_system
from dualpath_ray.config.ui import UiConfig
from dualpath_ray.ui.access import Access, needs_token
from dualpath_ray.ui.actor import address_of, page_link, page_within, start_page
from dualpath_ray.ui.feed import Feed
from dualpath_ray.ui.server import PageServer
from dualpath_ray.ui.watch import RunningSystem

DEFAULT_HOST, DEFAULT_PORT, DEFAULT_RUNS = "127.0.0.1", 8266, "runs"
Echo = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Of ``dualpath ui``; with one that is named, this process serves a page of its own."""

    host: str | None = None
    port: int | None = None
    runs: Path | None = None
    token: str | None = None
    open: bool = False

    @property
    def own(self) -> bool:
        return any(value is not None for value in (self.host, self.port, self.runs))


def show_page(name: str | None, options: PageOptions, echo: Echo, over: threading.Event) -> None:
    """Say where the page of a system is, and serve it until ``over`` where the system does not.

    Raises: ConfigError when there is no such system, or the port cannot be had.
    """
    name = the_system(name)
    link = None if options.own else page_link(name)
    if link is not None:
        echo(f"live page of {name}, served by the system: {link}")
        _open(link, options)
        return
    host = options.host or DEFAULT_HOST
    token = options.token or (secrets.token_urlsafe(18) if needs_token(host) else None)
    port = DEFAULT_PORT if options.port is None else options.port
    access, runs = Access(host, token), options.runs or Path(DEFAULT_RUNS)
    server = PageServer(RunningSystem(name), Feed(time.time), access, port, runs, "--port")
    try:
        link = address_of(host, server.port) + (f"?token={token}" if token else "")
        echo(f"live page of {name}, until Ctrl-C: {link}")
        _open(link, options)
        over.wait()
    finally:
        server.stop()


def start_configured(name: str, config: UiConfig, port: int | None, token: str | None, echo: Echo) -> None:
    """Let a system serve its page where its configuration or ``port`` asks for one. That it cannot does not stop the system."""
    wanted = config.port if port is None else port
    if wanted is None:
        return
    try:
        link = start_page(name, config.host, wanted, token, str(Path(config.runs).absolute()))
        echo(f"live page of {name}: {link}")
    except DualPathError as error:
        echo(f"{name} has no live page: {error}")


@contextmanager
def page_of_run(name: str, config: UiConfig, port: int | None, token: str | None, echo: Echo) -> Iterator[None]:
    """A page for as long as a run's own system is up, where its configuration or ``port`` asks for one.

    That it cannot be served does not end the run.
    """
    wanted = config.port if port is None else port
    if wanted is None:
        yield
        return
    with ExitStack() as page:
        try:
            runs = str(Path(config.runs).absolute())
            echo(f"live page: {page.enter_context(page_within(name, config.host, wanted, token, runs))}")
        except DualPathError as error:
            echo(f"no live page: {error}")
        yield


def _open(link: str, options: PageOptions) -> None:
    if options.open:
        webbrowser.open(link)
