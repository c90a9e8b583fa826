"""A running system asked again and again for the live page."""

import threading
import time
from typing import Any

from dualpath_ray.base.errors import DualPathError, SystemDiedError
from dualpath_ray.cluster.asking import ask
from dualpath_ray.cluster.attach import facts_of
from dualpath_ray.cluster.decisions import newest_decisions
from dualpath_ray.cluster.status import Sample, take_sample
from dualpath_ray.cluster.status_json import status_of
from dualpath_ray.ui.feed import Feed, Watched

WATCHED_S, ALONE_S = 0.7, 5.0  # between two samples, while somebody looks and while nobody does
_MOST = 60  # decisions of a sample


class RunningSystem:
    """A system on the Ray cluster that this process is in, under its name: another may come to have it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._before: Sample | None = None

    def status(self) -> dict[str, Any]:
        """Rates are means since the call before. Raises: ConfigError when there is no such system; SystemDiedError."""
        before, now = self._before, take_sample(self._name)
        self._before = now
        if not now.scheduler:
            raise SystemDiedError(now.silent.get("scheduler", "the scheduler does not answer"))
        return status_of(before or now, now, self._name)

    def decisions(self, since: int, most: int) -> list[dict[str, Any]]:
        """Raises: as ``status``."""
        scheduler, _ = facts_of(self._name)
        return newest_decisions(scheduler, since, most)

    def set_read_path(self, name: str) -> None:
        """Raises: as ``status``."""
        scheduler, _ = facts_of(self._name)
        ask(scheduler.set_read_path.remote(name), "the scheduler")


class Watch:
    """A thread that feeds a page; often while somebody looks, and now and then for the history while nobody does."""

    def __init__(self, system: Watched, feed: Feed) -> None:
        self._system, self._feed = system, feed
        self._looking = 0
        self._over = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def look(self, by: int) -> None:
        """One more looks (1), or one fewer (-1)."""
        with self._wake:
            self._looking += by
            self._wake.notify()

    def stop(self) -> None:
        """It has ended when this returns, or is about to."""
        with self._wake:
            self._over = True
            self._wake.notify()
        self._thread.join(WATCHED_S)

    def _run(self) -> None:
        while not self._over:
            began_s = time.monotonic()
            try:
                status, known = self._system.status(), self._feed.last_seq
                new = status["scheduler"]["num_decisions"] != known  # fewer: of another system
                self._feed.update(status, self._system.decisions(known, _MOST) if new else [])
            except DualPathError as error:
                self._feed.fail(str(error))
            except Exception as error:  # Ray's own, of many kinds, when its cluster goes away; this thread must go on
                self._feed.fail(f"Ray does not answer ({' '.join(str(error).split())[:200]}).")
            with self._wake:
                while not self._over:
                    left_s = began_s + (WATCHED_S if self._looking else ALONE_S) - time.monotonic()
                    if left_s <= 0:
                        break
                    self._wake.wait(left_s)
