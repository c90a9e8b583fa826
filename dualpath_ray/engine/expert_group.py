"""The all-to-all of engines that share a model's experts (section 5): torch.distributed, over gloo, or NCCL between GPUs.

All engines of a role are one group. Whose layer ends sends its tokens to the others, evenly, and gets as many bytes back:
dispatch and combine, one round of the whole group. Each engine has a thread that takes part in every round at once, with its
own tokens or none, so that nobody waits for another's computation; between rounds it waits at torch's key-value store.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.open_sockets import between, set_tos, tcp_connections
from dualpath_ray.engine.expert_round import PIECE_BYTES, GroupPlace, pieces, splits

_JOIN = timedelta(seconds=60)
_STEP = timedelta(seconds=60)  # of a round: who takes part takes part at once, and one that is silent for so long hangs
_IDLE = timedelta(days=20)  # milliseconds of it are a C int


class GroupStore:
    """Where a group meets: torch's store, listening on one address only. Keep it as long as the group."""

    def __init__(self, host: str) -> None:
        """Raises: TransportError when the address cannot be listened on."""
        try:
            with socket.create_server((host, 0)) as listening:
                self.port: int = listening.getsockname()[1]
                taken = os.dup(listening.fileno())
        except OSError as error:
            raise TransportError(f"no group of engines at {host}: {error.strerror or error}") from error
        self._store = dist.TCPStore(host, self.port, None, True, wait_for_workers=False, master_listen_fd=taken)


class ExpertGroup:
    """A member. One burst at a time."""

    def __init__(
        self,
        place: GroupPlace,
        device: str,
        post: Callable[[int], Callable[[], None]],
        on_failure: Callable[[str], None],
        limit: timedelta = _STEP,
    ) -> None:
        """Join; returns when all have, and every connection stands.

        Args:   device: cpu, or cuda, this process' first; post: tells the compute NIC of a round's bytes, and returns what
                waits until it is through with them; on_failure: gets the reason; limit: of a step of a round.
        Raises: TransportError when not all join.
        """
        self._place, self._device, self._post, self._on_failure = place, device, post, on_failure
        self._silence_s = 2 * limit.total_seconds()  # a round may be under way when a burst begins
        room = PIECE_BYTES + place.size  # what does not divide evenly may come from every member
        self._out, self._there = (torch.zeros(room, dtype=torch.uint8, device=device) for _ in range(2))
        self._changes = threading.Lock()
        self._burst: _Burst | None = None
        self._round = self._steps = 0
        self._closing = False
        self._failure: str | None = None
        os.environ.update(place.environment)
        try:
            self._bell, self._ear = self._store(), self._store()
            dist.init_process_group(
                "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
                store=self._store(),
                rank=place.rank,
                world_size=place.size,
                timeout=limit,
            )
            self._all_to_all(*splits([place.size] * place.size, place.rank))  # NCCL connects when it is first used
            self._mark()
        except (RuntimeError, ValueError) as error:  # dist.DistError is a RuntimeError
            raise TransportError(f"{place.who} has not joined its group: {_first_line(error)}") from error
        threading.Thread(target=self._serve, name="expert-group", daemon=True).start()

    def _store(self) -> dist.TCPStore:
        """A connection of its own: one that waits holds up all who share it."""
        return dist.TCPStore(self._place.host, self._place.port, None, False, timeout=_JOIN, wait_for_workers=False)

    def _mark(self) -> None:
        """Neither gloo nor NCCL nor the store can be told a type of service: set it on every connection between members."""
        if not self._place.tos:
            return
        mine = tcp_connections()
        all_ends: list[Any] = [None] * self._place.size
        dist.all_gather_object(all_ends, [(each.local, each.peer) for each in mine])
        for connection in between(mine, (end for ends in all_ends for end in ends)):
            set_tos(connection, self._place.tos)

    def exchange(self, nbytes: int) -> float:
        """Send so many bytes to the others and get them back; seconds that it took in the group.

        Raises: TransportError when a member is lost, or silent for too long.
        """
        burst = _Burst(nbytes)
        with self._changes:  # who serves does not go on to the next round meanwhile
            if self._failure is not None or self._closing:
                raise TransportError(self._failure or f"{self._place.who} ends")
            self._burst = burst
            failure = self._ring()
        if failure is not None:
            self._end(failure)
        steps = self._steps
        while not burst.through.wait(self._silence_s):
            if steps == self._steps:
                self._end(f"nothing has moved for {self._silence_s:g} s")
            steps = self._steps
        if not burst.done:
            raise TransportError(self._failure or f"{self._place.who} ends")
        return burst.took_s

    def _ring(self) -> str | None:
        """Begin the next round, if nobody has; why it cannot begin."""
        try:
            self._bell.set(_key(self._round), "")
        except RuntimeError as error:
            return _first_line(error)
        return None

    def close(self) -> None:
        """This engine ends, and with it the group."""
        with self._changes:
            self._closing = True
        self._release()

    def _serve(self) -> None:
        try:
            with nullcontext() if self._device == "cpu" else torch.cuda.stream(torch.cuda.Stream()):
                while not self._closing:
                    self._wait_for_bell()
                    with self._changes:  # who rings from here on rings for the next round
                        burst = self._burst
                        self._round += 1
                    self._take_part(burst)
        except Exception as error:  # of torch: whatever it is, the group is over
            with suppress(Exception):  # the others need not wait until this one has been silent for too long
                dist.destroy_process_group()
            self._end(_first_line(error))

    def _wait_for_bell(self) -> None:
        while True:
            began = time.monotonic()
            try:
                self._ear.wait([_key(self._round)], _IDLE)
                return
            except dist.DistStoreError:
                if time.monotonic() - began < _IDLE.total_seconds() / 2:
                    raise

    def _take_part(self, burst: "_Burst | None") -> None:
        place, began = self._place, time.perf_counter()
        each = [torch.zeros(1, dtype=torch.int64) for _ in range(place.size)]
        dist.all_gather(each, torch.tensor([burst.nbytes if burst else 0]))
        if place.rank == 0 and self._round > 1:
            self._bell.delete_key(_key(self._round - 2))  # all have been past it
        for sizes in pieces([int(size) for size in each]):
            send, receive = splits(sizes, place.rank)
            through = self._post(place.over_cnic_bytes(send, receive))
            self._all_to_all(send, receive)
            through()
        if burst:
            burst.took_s, burst.done, self._burst = time.perf_counter() - began, True, None
            burst.through.set()

    def _all_to_all(self, send: list[int], receive: list[int]) -> None:
        """Dispatch and combine. Args: as of ``splits``."""
        out, there = self._out[: sum(send)], self._there[: sum(receive)]
        dist.all_to_all_single(there, out, receive, send)
        self._steps += 1
        dist.all_to_all_single(out, there, send, receive)
        if self._device != "cpu":
            torch.cuda.current_stream().synchronize()
        self._steps += 1

    def _end(self, reason: str) -> None:
        """The group is over, unless this engine ends anyway."""
        if not self._closing and self._failure is None:
            self._failure = f"{self._place.who} has lost its group: {reason}"
            self._on_failure(self._failure)
        self._release()

    def _release(self) -> None:
        with self._changes:
            burst = self._burst
        if burst:
            burst.through.set()


class _Burst:
    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.took_s, self.done = nbytes, 0.0, False
        self.through = threading.Event()


def _key(number: int) -> str:
    return f"round {number}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
