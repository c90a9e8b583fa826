"""The status of a running system, now or again and again."""

import time
from collections.abc import Iterator
from typing import Any

from dualpath_ray.cluster.attach import the_system
from dualpath_ray.cluster.page import page_address
from dualpath_ray.cluster.status import take_sample
from dualpath_ray.cluster.status_json import status_of


def statuses(name: str | None, interval_s: float, forever: bool) -> Iterator[dict[str, Any]]:
    """One, or one every ``interval_s``: rates are means over that time.

    Raises: ConfigError when there is no such system; SystemDiedError when its scheduler is gone.
    """
    name = the_system(name)
    before, page = take_sample(name), page_address(name)
    while True:
        time.sleep(interval_s)
        now = take_sample(name)
        yield status_of(before, now, name, page)
        if not forever:
            return
        before = now
