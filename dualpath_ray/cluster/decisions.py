"""The scheduler's log of decisions, as records."""

from typing import Any

from dualpath_ray.cluster.asking import ask
from dualpath_ray.scheduler.decision_log import to_record


def decisions_of(scheduler: Any, since_seq: int, most: int | None = None) -> list[dict[str, Any]]:
    """Records of the decisions after a number, with the inputs that each was made on, as far as the log goes back.

    Args:   most: of the latest ones.
    Raises: SystemDiedError when the scheduler is gone.
    """
    records: list[dict[str, Any]] = []
    latest = ask(scheduler.status.remote(), "the scheduler")["num_decisions"]
    since_seq = max(since_seq, latest - most) if most is not None else since_seq
    while since_seq < latest:  # no further, or who decides faster than this reads would hold it for ever
        page = ask(scheduler.decisions.remote(since_seq), "the scheduler")
        if not page:
            break
        records += map(to_record, page)
        since_seq = page[-1].seq
    return records


def newest_decisions(scheduler: Any, since_seq: int, most: int) -> list[dict[str, Any]]:
    """The newest ``most`` decisions after a number, without the loads that they were made on, but with ``hit_tokens``.

    Raises: SystemDiedError when the scheduler is gone.
    """
    latest = ask(scheduler.status.remote(), "the scheduler")["num_decisions"]
    if latest < since_seq:  # another scheduler, which counts from the beginning
        since_seq = 0
    if latest == since_seq:
        return []
    page = ask(scheduler.decisions.remote(max(since_seq, latest - most), most), "the scheduler")
    return [
        {
            **{name: value for name, value in decision._asdict().items() if name != "inputs"},
            "read_path": decision.read_path.value,
            "hit_tokens": decision.inputs.request.hit_tokens if decision.inputs is not None else None,
        }
        for decision in page
    ]
