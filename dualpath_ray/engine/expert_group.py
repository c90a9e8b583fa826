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
from contextlib import nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist

from dualpath_ray.base.errors import TransportError
from dualpath_ray.base.open_sockets import mark, tcp_sockets
from dualpath_ray.engine.expert_round import GroupPlace, splits

_JOIN = timedelta(seconds=60)
_ROUND = timedelta(seconds=60)  # who takes part takes part at once: one that is silent for so long hangs
_IDLE = timedelta(days=1000)


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
        post: Callable[[int], Callable[[], float]],
        on_failure: Callable[[str], None],
    ) -> None:
        """Join; returns when all have.

        Args:   device: cpu, or cuda, this process' first; post: tells the compute NIC of a round's bytes, and returns what
                waits until it is through with them; on_failure: gets the reason.
        Raises: TransportError when not all join.
        """
        self._place, self._device, self._post, self._on_failure = place, device, post, on_failure
        for name, value in place.environment.items():
            os.environ.setdefault(name, value)
        if place.interface is not None:
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, place.interface)
        before = tcp_sockets()
        try:
            meeting, self._bell, self._ear = (self._store(_JOIN), self._store(_JOIN), self._store(_IDLE))
            dist.init_process_group(
                "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
                store=meeting,
                rank=place.rank,
                world_size=place.size,
                timeout=_ROUND,
            )
            dist.barrier()
        except (RuntimeError, ValueError) as error:  # dist.DistError is a RuntimeError
            raise TransportError(f"no group of {place.size} engines: {_first_line(error)}") from error
        if place.tos:  # neither gloo nor the store can be told
            mark(tcp_sockets() - before, place.tos)
        self._out, self._there = _Memory(device), _Memory(device)
        self._round = 0
        self._changes = threading.Lock()
        self._burst: _Burst | None = None
        self._closing = False
        self._failure: str | None = None
        threading.Thread(target=self._serve, name="expert-group", daemon=True).start()

    def _store(self, patience: timedelta) -> dist.TCPStore:
        """A connection of its own: one that waits holds up all who share it."""
        place = self._place
        return dist.TCPStore(place.host, place.port, None, False, timeout=patience, wait_for_workers=False)

    def exchange(self, nbytes: int) -> float:
        """Send so many bytes to the others and get them back; seconds that it took in the group.

        Raises: TransportError when a member is lost.
        """
        burst = _Burst(nbytes)
        with self._changes:
            if self._failure is not None:
                raise TransportError(self._failure)
            self._burst = burst
            self._bell.set(_key(self._round), "")
        burst.through.wait()
        if self._failure is not None:
            raise TransportError(self._failure)
        return burst.took_s

    def close(self) -> None:
        """This engine ends, and with it the group."""
        self._closing = True

    def _serve(self) -> None:
        try:
            with nullcontext() if self._device == "cpu" else torch.cuda.stream(torch.cuda.Stream()):
                while not self._closing:
                    self._ear.wait([_key(self._round)], _IDLE)
                    with self._changes:  # who rings from here on rings for the next round
                        burst = self._burst
                        self._round += 1
                    self._take_part(burst)
        except Exception as error:  # of torch: whatever it is, the group is over
            if not self._closing:
                self._fail(f"the group of engines has ended: {_first_line(error)}")

    def _take_part(self, burst: "_Burst | None") -> None:
        place, began = self._place, time.perf_counter()
        each = [torch.zeros(1, dtype=torch.int64) for _ in range(place.size)]
        dist.all_gather(each, torch.tensor([burst.nbytes if burst else 0]))
        if place.rank == 0 and self._round > 1:
            self._bell.delete_key(_key(self._round - 2))  # all have been past it
        send, receive = splits([int(size) for size in each], place.rank)
        wait_for_nic = self._post(place.over_cnic_bytes(send, receive))
        out, there = self._out.of(sum(send)), self._there.of(sum(receive))
        dist.all_to_all_single(there, out, receive, send)  # dispatch
        dist.all_to_all_single(out, there, send, receive)  # combine
        if self._device != "cpu":
            torch.cuda.current_stream().synchronize()
        wait_for_nic()
        if burst:
            burst.took_s, self._burst = time.perf_counter() - began, None
            burst.through.set()

    def _fail(self, reason: str) -> None:
        with self._changes:
            self._failure, burst = reason, self._burst
        if burst:
            burst.through.set()
        self._on_failure(reason)


class _Memory:
    """As much as was ever asked for."""

    def __init__(self, device: str) -> None:
        self._bytes = torch.zeros(0, dtype=torch.uint8, device=device)

    def of(self, nbytes: int) -> torch.Tensor:
        if len(self._bytes) < nbytes:
            self._bytes = torch.zeros(nbytes, dtype=torch.uint8, device=self._bytes.device)
        return self._bytes[:nbytes]


class _Burst:
    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.took_s = nbytes, 0.0
        self.through = threading.Event()


def _key(number: int) -> str:
    return f"round {number}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
