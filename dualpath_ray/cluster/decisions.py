"""The scheduler's log of decisions, as records."""

from typing import Any

from dualpath_ray.cluster.asking import ask
from dualpath_ray.scheduler.decision_log import to_record


def decisions_of(scheduler: Any, since_seq: int) -> list[dict[str, Any]]:
    """Records of the decisions after a number, with the inputs that each was made on, as far as the log goes back.

    Raises: SystemDiedError when the scheduler is gone.
    """
    records: list[dict[str, Any]] = []
    latest = ask(scheduler.status.remote(), "the scheduler")["num_decisions"]
    while since_seq < latest:  # no further, or who decides faster than this reads would hold it for ever
        page = ask(scheduler.decisions.remote(since_seq), "the scheduler")
        if not page:
            break
        records += map(to_record, page)
        since_seq = page[-1].seq
    return records
