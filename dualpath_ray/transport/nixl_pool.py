"""A pool registered with a NIXL agent over UCX, and the thread that answers for it.

Without NIXL's progress thread an agent does nothing unless it is called. RDMA reads a pool without its owner's help, TCP
does not, and no connection is made without it. So the owner polls: seldom, until a peer says that it copies.

Lists of ranges are made for each copy, not prepared once: a copy's ranges begin and end at any byte. Of the
time of a copy of 256 or 2048 ranges of 16 KiB that takes 2 to 5 % in one host and 1 to 2 % over TCP; prepared lists take less
than 1 %.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from dualpath_ray.base.mark import Mark
from dualpath_ray.base.memory import address_of
from dualpath_ray.base.nixl_agent import NixlFailedError, NixlUnendedError, end_agent, make_agent, run_transfer

_IDLE_S = 0.01  # between two polls while nothing moves
_QUICK_S = 5e-4  # while something does
_QUICK_FOR_S = 0.2  # after a peer said that it copies
_SAY_S = 0.05  # between two such words
_COPYING = b"copying"
_REACH_S = 10.0
TRIAL_BYTES = 4 << 20  # the most that a trial reads


class NixlPool:
    """An agent and the pool, registered once. Threads share it.

    Raises NixlFailedError when a peer or a link failed; NixlUnendedError when bytes may move until ``end`` has returned.
    """

    def __init__(self, node: str, pool: np.ndarray, device: str | None, mark: Mark | None = None) -> None:
        """Args: pool: uint8 [bytes]; device, mark: as ``make_agent``. Raises: NixlMissingError, too."""
        self._agent = make_agent(f"{node}-{uuid.uuid4().hex}", "UCX", device=device, mark=mark)
        self._tried = np.zeros(TRIAL_BYTES, np.uint8)  # where trials of peers go, and nobody reads
        self.address, self._tried_address = address_of(pool), address_of(self._tried)
        with _failing():  # as where RDMA may lock less memory than that
            self._registered = [
                self._agent.register_memory([(address_of(memory), len(memory), 0, "")], "DRAM")
                for memory in (pool, self._tried)
            ]
        self.metadata: bytes = self._agent.get_agent_metadata()
        self._said: dict[str, float] = {}  # when each peer was last told of a copy
        self._changed = threading.Condition()
        self._num_calls = 0
        self._ending = threading.Event()
        self._one_ends = threading.Lock()
        self._over = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="nixl-poll", daemon=True)
        self._poller.start()

    @property
    def name(self) -> str:
        """Of the agent: no two are alike."""
        name: str = self._agent.name
        return name

    def reach(self, remote: str, metadata: bytes, address: int) -> None:
        """Connect to a peer's agent, anew if need be, and fetch a byte: the first one takes several turns of both ends.

        Args: address: of the peer's pool, in its own memory.
        """
        with self._call():
            self._forget(remote)
            with _failing():
                self._agent.add_remote_agent(metadata)
        self.try_read(remote, address, 1)

    def leave(self, remote: str) -> None:
        """Take a connection down again. Nothing of it is under way."""
        with suppress(NixlUnendedError), self._call():  # an agent that has ended has none
            self._said.pop(remote, None)
            self._forget(remote)

    def try_read(self, remote: str, address: int, nbytes: int) -> None:
        """Fetch up to ``TRIAL_BYTES`` to where nobody reads them: a trial that fails may go on, and the agent need not end.

        Args: address: in the peer's memory.
        """
        with self._call():
            at = np.array([self._tried_address]), np.array([address])
            try:
                self._run("READ", remote, at, np.array([nbytes]), _REACH_S)
            except NixlUnendedError as error:
                self._forget(remote)
                raise NixlFailedError(str(error)) from error

    def copy(
        self, operation: str, remote: str, at: tuple[np.ndarray, np.ndarray], sizes: np.ndarray, limit_s: float
    ) -> None:
        """Move ranges.

        Args: operation: READ or WRITE; at: addresses here and in the peer's memory; int64 [ranges] each, as ``sizes``.
        """
        with self._call():
            self._run(operation, remote, at, sizes, limit_s)

    def end(self) -> None:
        """Return when nothing moves any more. Copies under way fail; peers find the connection lost."""
        self._ending.set()
        with self._one_ends:
            with self._changed:  # each leaves at its next look at its transfer
                self._changed.wait_for(lambda: not self._num_calls)
            if self._over.is_set():
                return
            self._over.set()
            self._poller.join()
            for remote in self._said:
                self._forget(remote)
            for descriptors in self._registered:
                with suppress(Exception):  # what UCX cannot take back now goes with the agent
                    self._agent.deregister_memory(descriptors)
            end_agent(self._agent)

    def _run(
        self, operation: str, remote: str, at: tuple[np.ndarray, np.ndarray], sizes: np.ndarray, limit_s: float
    ) -> None:
        agent = self._agent
        self._say(remote)
        with _failing():
            here, there = (agent.get_xfer_descs(_table(addresses, sizes), "DRAM") for addresses in at)
            handle = agent.initialize_xfer(operation, here, there, remote)
        run_transfer(agent, handle, limit_s, lambda: self._say(remote))

    def _say(self, remote: str) -> None:
        """Tell a peer that something moves, so that it polls quickly."""
        if self._ending.is_set():
            raise NixlUnendedError("this end was closed meanwhile")
        now = time.monotonic()
        if now - self._said.get(remote, 0.0) >= _SAY_S:
            self._said[remote] = now
            with suppress(Exception):  # the copy itself says what is wrong
                self._agent.send_notif(remote, _COPYING)

    def _forget(self, remote: str) -> None:
        with suppress(Exception):  # it was not known, or is gone
            self._agent.remove_remote_agent(remote)

    def _poll(self) -> None:
        pause_s, quick_until = _IDLE_S, 0.0
        while not self._over.wait(pause_s):
            with suppress(Exception):  # of a peer that died; who copies hears of it
                if self._agent.get_new_notifs():
                    quick_until = time.monotonic() + _QUICK_FOR_S
            pause_s = _QUICK_S if time.monotonic() < quick_until else _IDLE_S

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Around calls of the agent, which ends after them."""
        with self._changed:
            if self._ending.is_set():
                raise NixlUnendedError("this end was closed meanwhile")
            self._num_calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_calls -= 1
                self._changed.notify_all()


@contextmanager
def _failing() -> Iterator[None]:
    """Before anything moves."""
    try:
        yield
    except Exception as error:  # its bindings raise classes of their own, without a common one
        raise NixlFailedError(f"{type(error).__name__}: {error}") from error


def _table(addresses: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """NIXL's descriptors: int64 [ranges, 3]: address, bytes, device."""
    return np.stack([addresses, sizes, np.zeros_like(sizes)], axis=1)
