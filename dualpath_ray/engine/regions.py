"""The staging regions of a batch's layers, as the traffic manager grants them."""

import threading
from collections.abc import Sequence

from dualpath_ray.base.errors import TransportError
from dualpath_ray.traffic.messages import LayerIn


class Regions:
    """Told by the link's thread, waited for by the threads that move a batch's KV."""

    def __init__(self) -> None:
        self._arrived: dict[int, LayerIn] = {}
        self._gone = False
        self._arrival = threading.Condition()

    def put(self, message: LayerIn | None) -> None:
        """A layer's cached rows are in the pool; None when the link is gone."""
        with self._arrival:
            if message is None:
                self._gone = True
            else:
                self._arrived[message.layer] = message
            self._arrival.notify_all()

    def get(self, layer: int) -> LayerIn | None:
        """The layer's region if it may be used now. Raises: TransportError when the traffic manager is gone."""
        with self._arrival:
            found = self._arrived.get(layer)
            if found is None and self._gone:
                raise TransportError("the traffic manager is gone")
            return found

    def wait(self, layer: int) -> LayerIn:
        """Until the layer's region may be used: its cached rows, if any, are in, and it may be written.

        Raises: TransportError when the traffic manager is gone.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._gone or layer in self._arrived)
            if layer not in self._arrived:
                raise TransportError("the traffic manager is gone")
            return self._arrived[layer]

    def wait_any(self, layers: Sequence[int]) -> None:
        """Until one of these layers' regions may be used. Raises: TransportError when the traffic manager is gone."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._gone or any(layer in self._arrived for layer in layers))
            if not any(layer in self._arrived for layer in layers):
                raise TransportError("the traffic manager is gone")
