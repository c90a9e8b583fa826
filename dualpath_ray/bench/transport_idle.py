"""CPU time that a transport takes while nothing moves, by a process that holds both ends of it and does nothing else."""

import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

from dualpath_ray.kv.layout import KvLayout
from dualpath_ray.kv.segment import Segment, segment_path, sweep
from dualpath_ray.transport.load import transport_factory
from dualpath_ray.transport.port import CopyBatch

IDLE_S = 3.0
SETTLE_S = 1.0  # after the last copy: who polls does so less often then
AT_MOST_CORES = 0.05
_ANSWER_S = 60.0
_LAYOUT = KvLayout(1, 64, 64)


@dataclass(frozen=True, slots=True)
class IdleRow:
    """CPU seconds a second of one end."""

    name: str
    idle_cores: float
    idle_cores_at_most: float | None = None


def idle_row(transport: str) -> IdleRow:
    """Raises: ConfigError when the transport cannot run here."""
    context = get_context("spawn")
    pipe, its_pipe = context.Pipe()
    system = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    process = context.Process(target=_idle, args=(its_pipe, transport, system), daemon=True)
    process.start()
    its_pipe.close()
    try:
        if not pipe.poll(_ANSWER_S):
            raise OSError("it gave no answer")
        found = pipe.recv()
        if isinstance(found, BaseException):
            raise found
        return IdleRow(transport, found / 2, AT_MOST_CORES)
    finally:
        process.join(10)
        process.kill()
        sweep(system)


def _idle(pipe: Connection, transport: str, system: str) -> None:
    """In the process: CPU seconds a second of both ends, or what went wrong."""
    try:
        with ExitStack() as stack:
            ends = []
            for node in ("p0", "d0"):
                segment = Segment.create(segment_path(system, node), _LAYOUT, 1, 0, "--total")
                ends.append(transport_factory(transport)(node, segment))
                stack.callback(ends[-1].close)
            ends[0].connect("d0", ends[1].describe())
            ends[1].connect("p0", ends[0].describe())
            one = np.array([segment.slots_offset])
            ends[0].read("d0", CopyBatch(one, one, np.array([_LAYOUT.slot_bytes])))
            time.sleep(SETTLE_S)
            before = time.process_time()
            time.sleep(IDLE_S)
            pipe.send((time.process_time() - before) / IDLE_S)
    except Exception as error:
        pipe.send(error)


def idle_table(rows: list[IdleRow]) -> list[str]:
    """Markdown."""
    lines = ["| one end, idle | cores | at most |", "|---|---|---|"]
    for row in rows:
        most = "" if row.idle_cores_at_most is None else f"{row.idle_cores_at_most:.2f}"
        lines.append(f"| {row.name} | {row.idle_cores:.3f} | {most} |")
    return lines
