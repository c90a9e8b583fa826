"""The live page that a detached system serves itself: an actor of its namespace, which ``ui/actor.py`` defines."""

from typing import Any

import ray

from dualpath_ray.base.errors import DualPathError
from dualpath_ray.cluster.asking import ask

PAGE_NAME = "ui"


def page_of(system: str) -> Any | None:
    """The actor that serves the page of a system; None where there is none."""
    try:
        return ray.get_actor(PAGE_NAME, namespace=system)
    except ValueError:
        return None


def page_address(system: str) -> str | None:
    """Where the page of a system is, without the token that it may ask for; None where none is served."""
    page = page_of(system)
    if page is None:
        return None
    try:
        address: str = ask(page.address.remote(), "the live page")
    except DualPathError:  # it is being restarted, or has ended
        return None
    return address
