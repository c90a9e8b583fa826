"""A node's engines as a group: only the leader (engine 0) talks to the scheduler (section 6).

It fetches work in batches, hands it to the engines, and reports loads: at every fetch, and when they change, at most every
fetch interval. The scheduler answers a fetch when it has something for the group.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from dualpath_ray.base.types import ReadPath, Role
from dualpath_ray.engine.request import EngineRequest
from dualpath_ray.engine.sampling import SamplingParams
from dualpath_ray.scheduler.state import Decision, DecodeLoad, GroupReport, NicLoad, NodeLoad, PrefillLoad, Request
from dualpath_ray.traffic.messages import NodeState, Relay

_FETCH_WAIT_S = 1.0


def engine_id(node: str, engine: int) -> str:
    return f"{node}/e{engine}"


def engine_index(engine: str) -> int:
    return int(engine.rpartition("/e")[2])


class GroupLeader:
    """Fetches for a group.

    Args: fetch: blocking call (report, wait_s) -> decisions; report: call without an answer; dispatch: gives an engine of
        the group a request; failed: told in one sentence when the scheduler is gone.
    """

    def __init__(
        self,
        node: str,
        role: Role,
        num_engines: int,
        hbm_tokens: int,
        block_tokens: int,
        interval_s: float,
        fetch: Callable[[GroupReport, float], list[tuple[Request, Decision]]],
        report: Callable[[GroupReport], None],
        dispatch: Callable[[int, EngineRequest], None],
        failed: Callable[[str], None],
    ) -> None:
        self._node, self._role, self._hbm_tokens = node, role, hbm_tokens
        self._block_tokens, self._interval_s = block_tokens, interval_s
        self._fetch, self._report, self._dispatch, self._failed = fetch, report, dispatch, failed
        self._changed = threading.Condition()
        self._state: NodeState | None = None
        self._dirty = False
        self._finished: list[str] = []
        self._seen = 0
        self._number = 0
        self._assigned: list[dict[str, tuple[Request, Decision]]] = [{} for _ in range(num_engines)]
        self._fetching = False
        self._called_s = float("-inf")  # when the last call began, or brought something
        self._stopping = False

    def start(self) -> None:
        for run in (self._fetch_all, self._report_changes):
            threading.Thread(target=run, name=f"group-{run.__name__}", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def on_node_state(self, state: NodeState) -> None:
        with self._changed:
            self._state, self._dirty = state, True
            self._changed.notify_all()

    def on_finished(self, engine: int, request_id: str) -> None:
        with self._changed:
            if self._assigned[engine].pop(request_id, None) is not None:
                self._finished.append(request_id)
                self._dirty = True
                self._changed.notify_all()

    def _take_report(self) -> GroupReport:
        """The report of now; its finished requests are told once."""
        state = self._state
        assert state is not None
        engines: list[PrefillLoad | DecodeLoad] = []
        for index, assigned in enumerate(self._assigned):
            requests = [request for request, _ in assigned.values()]
            name = engine_id(self._node, index)
            if self._role is Role.PREFILL:
                engines.append(PrefillLoad(name, len(requests), sum(r.prompt_tokens for r in requests)))
            else:
                tokens = sum(r.total_tokens for r in requests)
                engines.append(DecodeLoad(name, len(requests), tokens, self._hbm_tokens - tokens))
        reads, buffer = self._not_opened(state)
        node = NodeLoad(
            self._node,
            state.read_queue_tokens + reads,
            state.read_bytes,
            state.can_read,
            state.free_buffer_tokens - buffer,
            tuple(NicLoad(*nic) for nic in state.nics),
        )
        finished, self._finished, self._dirty = tuple(self._finished), [], False
        self._number += 1
        self._called_s = time.monotonic()
        return GroupReport(self._node, self._role, node, tuple(engines), self._seen, finished, self._number)

    def _not_opened(self, state: NodeState) -> tuple[int, int]:
        """(tokens to read here, buffer tokens) of decisions that are handed out and not in the node's state yet."""
        opened: dict[int, int] = {engine: seq for engine, seq in state.opened}
        mine = ReadPath.PE if self._role is Role.PREFILL else ReadPath.DE
        reads = buffer = 0
        for engine, assigned in enumerate(self._assigned):
            for request, decision in assigned.values():
                if decision.seq > opened.get(engine, 0):
                    reads += request.hit_tokens if decision.read_path is mine else 0
                    blocks = -(-request.prompt_tokens // self._block_tokens)
                    buffer += blocks * self._block_tokens if self._role is Role.DECODE else 0
        return reads, buffer

    def _fetch_all(self) -> None:
        """Fetch at most once an interval: under load one call brings what was decided in it, and carries the report.

        After a fetch that brought something the next does not wait for more, which spares the scheduler a thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._state is not None or self._stopping)
        wait_s = _FETCH_WAIT_S
        while not self._stopping:
            with self._changed:
                report = self._take_report()
                self._fetching = True
            try:
                found = self._fetch(report, wait_s)
                for request, decision in found:
                    self._hand_out(request, decision)
            except Exception as error:  # whatever ends it, the group gets no more work
                if not self._stopping:
                    self._failed(f"{self._node} gets no more work from the scheduler: {error}")
                return
            with self._changed:
                self._fetching = False
                if found:
                    self._called_s = max(self._called_s, time.monotonic() if wait_s else 0.0)
                if found or not wait_s:
                    self._pause()
            wait_s = 0.0 if found else _FETCH_WAIT_S

    def _pause(self) -> None:
        """Until an interval after the last call. The lock is held."""
        while not self._stopping and (left_s := self._called_s + self._interval_s - time.monotonic()) > 0:
            self._changed.wait(left_s)

    def _hand_out(self, request: Request, decision: Decision) -> None:
        mine = decision.prefill_engine if self._role is Role.PREFILL else decision.decode_engine
        engine = engine_index(mine)
        with self._changed:
            if decision.seq <= self._seen:
                return  # told again, because a report crossed it
            self._assigned[engine][request.request_id] = (request, decision)
            self._seen = decision.seq
        self._dispatch(engine, bind(request, decision, self._block_tokens))

    def _report_changes(self) -> None:
        """Report what has changed while a fetch waits; between two fetches the next one will tell."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: (self._dirty and self._fetching) or self._stopping)
                self._pause()
                if self._stopping:
                    return
                if not (self._dirty and self._fetching):
                    continue
                report = self._take_report()
            self._report(report)


def bind(request: Request, decision: Decision, block_tokens: int) -> EngineRequest:
    """The engines' view of an assigned request. Its payload is what the client put in (``client_payload``)."""
    payload: Any = request.payload
    return EngineRequest.unpack(
        {
            **payload,
            "request_id": request.request_id,
            "attempt": request.attempt,
            "seq": decision.seq,
            "trajectory_id": request.trajectory_id,
            "hit_blocks": request.hit_tokens // block_tokens,
            "read_path": ReadPath(decision.read_path),
            "prefill_node": decision.prefill_node,
            "prefill_engine": engine_index(decision.prefill_engine),
            "decode_node": decision.decode_node,
            "decode_engine": engine_index(decision.decode_engine),
        }
    )


def client_payload(
    client_id: str,
    token_ids: bytes,
    keys: list[bytes],
    being_written: list[bool],
    salt: bytes,
    weights_version: int,
    params: SamplingParams,
    deadline_s: float | None = None,
) -> dict[str, Any]:
    """What a client hands through the scheduler to the engines.

    Args: token_ids: int32, little endian; deadline_s: as of EngineRequest.
    """
    return {
        "client_id": client_id,
        "token_ids": token_ids,
        "keys": keys,
        "being_written": being_written,
        "salt": salt,
        "weights_version": weights_version,
        "params": asdict(params),
        "deadline_s": deadline_s,
    }


class GroupMember:
    """Another engine of the group: gets work from the leader and tells it what is finished, through the node's links."""

    def __init__(
        self, engine: int, send: Callable[[Any], None], dispatch: Callable[[int, EngineRequest], None]
    ) -> None:
        self._engine, self._send, self._dispatch = engine, send, dispatch

    def on_relay(self, message: Relay) -> None:
        self._dispatch(self._engine, EngineRequest.unpack(message.data))

    def on_finished(self, engine: int, request_id: str) -> None:
        self._send(Relay(0, "finished", {"engine": engine, "request_id": request_id}))
