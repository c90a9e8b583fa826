"""Model-execution traffic of an engine (section 5): the all-to-all of an expert-parallel model after every layer.

An engine with peers exchanges its tokens' bytes with them (``expert_group.py``). One without replays the burst: as many bytes
go over its compute NIC, in the lane of model execution, and the next layer waits for them.
"""

import queue
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dualpath_ray.base.errors import TransportError
from dualpath_ray.engine.timed import DeviceTime, sleep_until
from dualpath_ray.traffic.messages import Collective, CollectiveDone

if TYPE_CHECKING:  # torch takes seconds
    from dualpath_ray.engine.expert_group import ExpertGroup, GroupPlace

_KEPT = 100_000  # of the last times


class Collectives:
    """Of one engine."""

    def __init__(
        self, engine: int, bytes_per_token: int, send: Callable[[Any], None], device: DeviceTime | None = None
    ) -> None:
        """Args: bytes_per_token: sent, and received, in a layer; device: that computes, if it does so by itself."""
        self._engine, self._bytes_per_token, self._send, self._device = engine, bytes_per_token, send, device
        self._group: ExpertGroup | None = None
        self._done: queue.SimpleQueue[CollectiveDone | None] = queue.SimpleQueue()
        self._op = 0
        self._times: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def join(self, place: "GroupPlace", device: str, on_failure: Callable[[str], None]) -> None:
        """From here on bytes are exchanged with a group; returns when all have joined. As of ``ExpertGroup``."""
        from dualpath_ray.engine.expert_group import ExpertGroup

        self._group = ExpertGroup(place, device, self._post_round, on_failure)

    def run(self, num_tokens: int) -> None:
        """A layer's burst; returns when it is through.

        Raises: TransportError when the traffic manager, or a member of the group, is gone.
        """
        nbytes, device = num_tokens * self._bytes_per_token, self._device
        began_s = device.at_s if device else time.monotonic()
        if self._group is not None:
            took_s = self._group.exchange(nbytes)
            if device:
                device.told()
        else:
            done = self._wait(self._post(nbytes, began_s))
            took_s = done.took_s
            (device.wait_until if device else sleep_until)(done.end_s)  # it is told ahead
        self._times.append((took_s, time.monotonic() - began_s))

    def _post_round(self, nbytes: int) -> Callable[[], None]:
        """Give the NIC what a round of the group sends over it; returns what waits for its end."""
        op = self._post(nbytes, time.monotonic(), on_device=True)
        return lambda: sleep_until(self._wait(op).end_s)

    def _post(self, nbytes: int, posted_s: float, on_device: bool = False) -> int:
        self._op += 1
        self._send(Collective(self._engine, self._op, nbytes, posted_s, on_device))
        return self._op

    def _wait(self, op: int) -> CollectiveDone:
        done = self._done.get()  # ends with the link, if not before
        if done is None:
            raise TransportError("the link to the traffic manager has ended, and a collective with it")
        assert done.op == op
        return done

    def close(self) -> None:
        """The engine ends."""
        if self._group is not None:
            self._group.close()
        self.on_done(None)

    def take_times(self) -> list[tuple[float, float]]:
        """Of each burst since the last call: (seconds by the NIC's schedule or in the group, seconds that the engine waited)."""
        taken = []
        while self._times:
            taken.append(self._times.popleft())
        return taken

    def on_done(self, message: CollectiveDone | None) -> None:
        """From the link's thread; None when the link is gone."""
        self._done.put(message)
