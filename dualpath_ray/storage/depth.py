"""How many reads and writes of a store are in flight: as many as make it faster, and no more. Pure.

A device, a file system and a network store differ in how many requests they want, and the best number moves with what
else they serve. So it is searched while the system runs: a step up stays if the rate rises with it, else the step back.
"""

_WINDOW = 4  # completions of each request in flight before a depth is judged: fewer only see noise
_GAIN = 1.05  # a step up must bring this, or more in flight only waits longer
_REST = 16  # windows at the depth that was found, before looking again


class AdaptiveDepth:
    """Feed it completions; ``value`` is how many requests may be in flight now."""

    def __init__(self, least: int, most: int) -> None:
        """Args: least, most: bounds of ``value``, which begins at the least."""
        if not 1 <= least <= most:
            raise ValueError(f"a depth between {least} and {most}")
        self._least, self._most = least, most
        self.value = least
        self._base: float | None = None  # bytes/s of the depth that a step was made from
        self._from = least
        self._rest = 0
        self._begin(None)

    def _begin(self, now_s: float | None) -> None:
        self._started_s, self._bytes, self._count, self._full = now_s, 0, 0, True
        self._of_before = 0

    def done(self, nbytes: int, now_s: float, waiting: bool) -> None:
        """A request is over.

        Args: now_s: never runs back; waiting: whether others wait for a place, so that the depth is what limits the rate.
        """
        if self._of_before:
            self._of_before -= 1
            return
        if self._started_s is None:
            self._begin(now_s)
            return
        self._bytes += nbytes
        self._count += 1
        self._full = self._full and waiting
        if self._count < _WINDOW * self.value:
            return
        elapsed = now_s - self._started_s
        rate, full = self._bytes / elapsed if elapsed > 0 else float("inf"), self._full
        self._begin(now_s)
        if full:  # else the demand is what limits, and the window says nothing of the depth
            self._judge(rate)

    def _judge(self, rate: float) -> None:
        if self._base is not None and rate < self._base * _GAIN:
            self._step(self._from)  # the last step brought nothing
            self._base, self._rest = None, _REST
        elif self._rest:
            self._rest -= 1
            if not self._rest and self.value > self._least:
                self._step(max(self._least, self.value // 2))  # it may want fewer by now: begin again from there
        elif self.value < self._most:
            self._base, self._from = rate, self.value
            self._step(min(self._most, self.value * 2))
        else:
            self._base, self._rest = None, _REST

    def _step(self, value: int) -> None:
        self._begin(None)
        self._of_before = self.value + value  # in flight from before, and while the device gets used to it
        self.value = value
