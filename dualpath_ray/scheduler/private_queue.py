"""What waits in front of one decode group, in order, and how much of it the group's free HBM would hold (section 6)."""

from collections import OrderedDict
from dataclasses import dataclass

from dualpath_ray.scheduler.sharing import SharedOut
from dualpath_ray.scheduler.state import Request


@dataclass(slots=True)
class Waiting:
    """A request that nothing is bound to yet."""

    arrival: int
    request: Request
    tokens: int  # len(r)
    shared_out: SharedOut | None = None  # on what its decode group was chosen


class PrivateQueue:
    """FIFO, by request id, in two parts: R, the head that would fit the free HBM without fragmentation; and the rest.

    R grows and shrinks at its end, so that a change takes as long as there are requests that change sides, not longer.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.fitting_tokens = 0  # of R
        self.head: Waiting | None = None  # the request that is next
        self._free_tokens = 0
        self._fitting: OrderedDict[str, Waiting] = OrderedDict()
        self._rest: OrderedDict[str, Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._fitting) + len(self._rest)

    def __getitem__(self, request_id: str) -> Waiting:
        return self._part(request_id)[request_id]

    def set_free(self, free_tokens: int) -> None:
        """The group's free HBM is another."""
        self._free_tokens = free_tokens
        self._fit()

    def append(self, waiting: Waiting) -> bool:
        """Put a request at the end. Returns: whether it is the head."""
        tokens = waiting.tokens
        self.tokens += tokens
        if not self._rest and self.fitting_tokens + tokens <= self._free_tokens:
            self._fitting[waiting.request.request_id] = waiting
            self.fitting_tokens += tokens
        else:
            self._rest[waiting.request.request_id] = waiting
        if self.head is not None:
            return False
        self.head = waiting
        return True

    def replace(self, waiting: Waiting) -> None:
        """Put a later attempt in the place of an earlier one."""
        request_id = waiting.request.request_id
        part = self._part(request_id)
        self._count(part, waiting.tokens - part[request_id].tokens)
        part[request_id] = waiting
        self._fit()
        self._find_head()

    def remove(self, request_id: str) -> None:
        """Take a request out."""
        part = self._part(request_id)
        self._count(part, -part.pop(request_id).tokens)
        self._fit()
        self._find_head()

    def bind_head(self) -> None:
        """The head is assigned to an engine of the group, whose free HBM is less by its tokens from now on.

        The other requests of R fit what is left as they fitted before. There is no R when one engine had room for the
        head although the group, with an overfull one, had none; nor is there one afterwards.
        """
        part = self._fitting or self._rest
        _, waiting = part.popitem(last=False)
        self._count(part, -waiting.tokens)
        self._free_tokens -= waiting.tokens
        self._find_head()

    def clear(self) -> list[Waiting]:
        """Take everything out, in order."""
        everything = [*self._fitting.values(), *self._rest.values()]
        self._fitting.clear()
        self._rest.clear()
        self.tokens = self.fitting_tokens = 0
        self.head = None
        return everything

    def _find_head(self) -> None:
        part = self._fitting or self._rest
        self.head = next(iter(part.values())) if part else None

    def _part(self, request_id: str) -> OrderedDict[str, Waiting]:
        return self._fitting if request_id in self._fitting else self._rest

    def _count(self, part: OrderedDict[str, Waiting], tokens: int) -> None:
        self.tokens += tokens
        if part is self._fitting:
            self.fitting_tokens += tokens

    def _fit(self) -> None:
        """Move the border between R and the rest to where it belongs."""
        while self._fitting and self.fitting_tokens > self._free_tokens:
            request_id, waiting = self._fitting.popitem()
            self.fitting_tokens -= waiting.tokens
            self._rest[request_id] = waiting
            self._rest.move_to_end(request_id, last=False)
        while self._rest:
            request_id, waiting = next(iter(self._rest.items()))
            if self.fitting_tokens + waiting.tokens > self._free_tokens:
                return
            del self._rest[request_id]
            self._fitting[request_id] = waiting
            self.fitting_tokens += waiting.tokens
