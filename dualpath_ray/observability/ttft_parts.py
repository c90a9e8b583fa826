"""What a turn waited for until its first token. Pure."""

from collections.abc import Sequence

import numpy as np

from dualpath_ray.observability.run_record import TurnRecord

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
    end = max(turn.submit_s, turn.prefill_end_s)
    ready = min(max(turn.source_ready_s, turn.submit_s), end)
    start = min(max(turn.prefill_start_s, ready), end)
    until_ready = ready - turn.submit_s
    read = min(max(0.0, turn.read_s), until_ready)
    slots = min(max(0.0, turn.read_queued_s), until_ready - read)
    return until_ready - read - slots, slots, read, start - ready, end - start


def mean_ttft_parts_s(turns: Sequence[TurnRecord]) -> list[float]:
    """Means over turns; zeros without any."""
    if not turns:
        return [0.0] * len(TTFT_PARTS)
    return [float(x) for x in np.mean([ttft_parts_s(turn) for turn in turns], axis=0)]
