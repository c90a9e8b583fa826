"""What a turn waited for until its first token. Pure."""

from collections.abc import Sequence

import numpy as np

from dualpath_ray.observability.run_record import TurnRecord
from dualpath_ray.observability.turn_columns import column

# (class of chart.css, name, what happens meanwhile)
TTFT_PARTS: tuple[tuple[str, str, str], ...] = (
    ("wait-decision", "wait for decision", "in the scheduler’s queue, being assigned, handed over"),
    ("wait-slots", "wait for buffer", "until the DRAM buffer of the side that reads has room"),
    ("read", "storage read", "from the first block asked for to the last one verified"),
    ("wait-engine", "wait for engine", "loaded, until a forward batch of the prefill engine takes it"),
    ("prefill-compute", "prefill", "computing the new tokens, with the hit moving into the engine"),
)


def ttft_parts_s(turn: TurnRecord) -> tuple[float, float, float, float, float]:
    """Durations of ``TTFT_PARTS`` in order; none is negative and they add up to submit .. first token."""
    decision, slots, read, engine, prefill = (float(part[0]) for part in _parts_s([turn]))
    return decision, slots, read, engine, prefill


def mean_ttft_parts_s(turns: Sequence[TurnRecord]) -> list[float]:
    """Means over turns; zeros without any."""
    if not turns:
        return [0.0] * len(TTFT_PARTS)
    return [float(part.mean()) for part in _parts_s(turns)]


def _parts_s(turns: Sequence[TurnRecord]) -> tuple[np.ndarray, ...]:
    """``TTFT_PARTS`` of every turn, each [turns]."""
    submit = column(turns, "submit_s")
    end = np.maximum(submit, column(turns, "prefill_end_s"))
    ready = np.minimum(np.maximum(column(turns, "source_ready_s"), submit), end)
    start = np.minimum(np.maximum(column(turns, "prefill_start_s"), ready), end)
    until_ready = ready - submit
    read = np.minimum(np.maximum(0.0, column(turns, "read_s")), until_ready)
    slots = np.minimum(np.maximum(0.0, column(turns, "read_queued_s")), until_ready - read)
    return until_ready - read - slots, slots, read, start - ready, end - start
