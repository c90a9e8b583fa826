"""Spans of the data path on Ray's own timeline, where Ray was started with ``RAY_PROFILING=1``."""

import json
import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualpath_ray.base.span_log import Span
from dualpath_ray.observability.timeline_rows import TimelineRows

_LOG = logging.getLogger(__name__)
_EVERY_S = 1.0
_MOST_SPANS = 1000  # of an actor in that time: more are left out, which the log tells
_MOST_REQUESTS = 8  # that a span names, of a batch
_SEND_S, _END_S = 5.0, 2.0  # longer than this no sending takes, and no end
_TELL_S = 60.0  # between two lines of the log
_TASK_SPANS, _TASK_S = 1000, 10.0  # what Ray keeps of a task; and only the last 10,000 tasks of a cluster are drawn


def profiling_here() -> bool:
    """Whether Ray was started with its profiling on: its workers inherit the environment."""
    return "RAY_PROFILING" in os.environ


class RayTimeline:
    """Sends the spans of one actor to where Ray keeps its own.

    Ray's call for a span of one's own is for what a thread does within a task, now. The data path runs in threads of
    actors and tells of a span when it is over, so events go straight to Ray's control store (GCS), which has no public
    call for this. There every event belongs to a task: a row of the timeline is entered as a finished one of the actor,
    and soon as another.
    """

    def __init__(self, who: str) -> None:
        """Args: who: the actor, for spans without a place."""
        self._who = who
        self._waiting: deque[Span] = deque(maxlen=_MOST_SPANS)
        self._num_lost = 0
        self._told_s = float("-inf")
        self._rows = TimelineRows()
        self._tasks: dict[_Row, _Task] = {}
        self._stub: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)
        self._thread.start()

    def add(self, span: Span) -> None:
        """As of ``SpanSink``. Of too many the oldest are left out."""
        self._num_lost += len(self._waiting) == _MOST_SPANS
        self._waiting.append(span)

    def close(self) -> None:
        """Send what waits, and end."""
        self._over.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_EVERY_S)
            spans = [self._waiting.popleft() for _ in range(len(self._waiting))]
            problem = ""
            try:
                if spans:
                    self._send(spans)
            except Exception as error:  # nothing of it may reach the data path; the control store may come back
                self._num_lost += len(spans)
                problem = f": {error!r}"
            self._tell(problem)

    def _tell(self, problem: str) -> None:
        """Gaps must not look like idleness."""
        if self._num_lost and time.monotonic() - self._told_s > _TELL_S:
            _LOG.warning("%s: spans missing on Ray's timeline: %d%s", self._who, self._num_lost, problem)
            self._num_lost, self._told_s = 0, time.monotonic()

    def _send(self, spans: list[Span]) -> None:
        from ray import get_runtime_context
        from ray.core.generated.gcs_service_pb2 import AddTaskEventDataRequest
        from ray.util import get_node_ip_address

        context, here = get_runtime_context(), get_node_ip_address()
        worker = bytes.fromhex(context.get_worker_id())
        request = AddTaskEventDataRequest()
        request.data.job_id = bytes.fromhex(context.get_job_id())
        entries: dict[bytes, Any] = {}
        offset_s = time.time() - time.monotonic()
        for span in spans:
            row = _Row(span.place or self._who, self._rows.row(span.place, span.start_s, span.stop_s))
            task = self._task(row, context.get_actor_id())
            entry = entries.get(task.id)
            if entry is None:
                entry = entries[task.id] = request.data.events_by_task.add()
                _describe(entry, task.id, row, context)
                entry.profile_events.component_type = "worker"
                # Ray draws a row of each id
                entry.profile_events.component_id = worker + task.number.to_bytes(2, "big")
                entry.profile_events.node_ip_address = here
            entry.profile_events.events.add(
                event_name=span.name,
                start_time=_ns(span.start_s + offset_s),
                end_time=_ns(span.stop_s + offset_s),
                extra_data=json.dumps(_told(span, row)),
            )
        self._gcs(context.gcs_address).AddTaskEventData(request, timeout=_SEND_S)

    def _task(self, row: "_Row", actor_id: str) -> "_Task":
        """What the row's next span belongs to."""
        task = self._tasks.get(row)
        if task is None or task.num_spans == _TASK_SPANS or time.monotonic() - task.since_s > _TASK_S:
            number = len(self._tasks) if task is None else task.number
            task_id = os.urandom(8) + bytes.fromhex(actor_id)  # as Ray makes ids of an actor's tasks
            task = self._tasks[row] = _Task(task_id, number, time.monotonic())
        task.num_spans += 1
        return task

    def _gcs(self, address: str) -> Any:
        if self._stub is None:
            from ray._private.grpc_utils import init_grpc_channel  # with Ray's token and TLS
            from ray.core.generated.gcs_service_pb2_grpc import TaskInfoGcsServiceStub

            self._stub = TaskInfoGcsServiceStub(init_grpc_channel(address))
        return self._stub


class _Row(NamedTuple):
    place: str
    number: int  # from 0


@dataclass(slots=True)
class _Task:
    id: bytes
    number: int  # of the row, among all of the actor
    since_s: float
    num_spans: int = 0


def _describe(entry: Any, task_id: bytes, row: _Row, context: Any) -> None:
    """What Ray's table of tasks shows; one that is not finished would count as failed at the end of the job."""
    from ray.core.generated.common_pb2 import ACTOR_TASK, FINISHED, PYTHON

    job, actor = bytes.fromhex(context.get_job_id()), bytes.fromhex(context.get_actor_id())
    entry.task_id, entry.job_id = task_id, job
    info = entry.task_info
    info.type, info.language, info.job_id, info.task_id, info.actor_id = ACTOR_TASK, PYTHON, job, task_id, actor
    info.name = info.func_or_class_name = f"timeline of {row.place}"
    entry.state_updates.node_id = bytes.fromhex(context.get_node_id())
    entry.state_updates.worker_id = bytes.fromhex(context.get_worker_id())
    entry.state_updates.state_ts_ns[FINISHED] = time.time_ns()


def _told(span: Span, row: _Row) -> dict[str, str]:
    """What the timeline shows of an event; its ``name`` is what stands in the box."""
    layer = {} if span.layer is None else {"layer": str(span.layer)}
    name = f"{' '.join((span.name, *layer.values()))}, {row.place}"  # Ray's rows have no names but ids
    told = {"name": name, "place": row.place, "row": str(row.number + 1), **layer}
    told["requests"] = ", ".join(span.request_ids[:_MOST_REQUESTS])
    if len(span.request_ids) > _MOST_REQUESTS:
        told["requests"] += f" and {len(span.request_ids) - _MOST_REQUESTS} more"
    if span.nbytes:
        told["bytes"] = str(span.nbytes)
    if span.note:
        told["note"] = span.note
    return told


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
