"""Which group and engine a request goes to: the rules between engines (section 6). Pure functions.

Every tie is broken by a name at last, so that a decision can be replayed.
"""

from collections.abc import Iterable, Mapping

from dualpath_ray.scheduler.state import DecodeLoad, FetchLimits, PrefillLoad, Request


def choose_decode_group(group_tokens: Mapping[str, int]) -> str:
    """The group with the least total tok_e, what waits in its private queue included (section 6, DE across groups)."""
    return min(group_tokens, key=lambda group_id: (group_tokens[group_id], group_id))


def fitting_tokens(queue: Iterable[Request], loads: Iterable[DecodeLoad]) -> int:
    """Sum of len(r) over R: the head of a private queue that would fit the group's free HBM without fragmentation."""
    free = sum(load.free_hbm_tokens for load in loads)
    total = 0
    for request in queue:
        free -= request.total_tokens
        if free < 0:
            break
        total += request.total_tokens
    return total


def balance_threshold(fitting: int, unfinished_tokens: int, num_engines: int, limits: FetchLimits) -> float:
    """Z, in tokens: 1.05 x the mean of tok_e once R is assigned (section 6, DE within the group).

    Assigning a request of R moves its tokens from ``fitting`` to a tok_e, so Z is the same throughout a fetch.

    Args: fitting: tokens of R; unfinished_tokens: sum of tok_e over the group's engines.
    """
    return limits.imbalance * (fitting + unfinished_tokens) / num_engines


def choose_decode_engine(request: Request, loads: Iterable[DecodeLoad], threshold_tokens: float) -> DecodeLoad | None:
    """Among engines with room in HBM: those that stay under Z first, by least seq_e; else by least tok_e.

    Returns: None when no engine has room, which ends the group's fetch.
    """
    needed = request.total_tokens
    best: DecodeLoad | None = None
    least: tuple[bool, int, int, str] | None = None
    for load in loads:
        engine_id, count, tokens, free_hbm_tokens = load
        if free_hbm_tokens < needed:
            continue
        under = tokens + needed <= threshold_tokens
        rank = (False, count, tokens, engine_id) if under else (True, tokens, count, engine_id)
        if least is None or rank < least:
            best, least = load, rank
    return best


def choose_prefill_engine(
    loads: Iterable[PrefillLoad], read_queues: Mapping[str, int], limits: FetchLimits
) -> PrefillLoad | None:
    """Engines over beta get nothing; those on nodes with a short read queue (<= alpha) go first; least tok_e wins.

    Args:    read_queues: read_q in tokens of each engine's node, by engine id.
    Returns: None when every engine is over beta, which ends the fetch.
    """

    def order(load: PrefillLoad) -> tuple[bool, int, int, str]:
        is_long = read_queues[load.engine_id] > limits.short_read_queue_tokens
        return (is_long, load.unfinished_tokens, load.num_unfinished, load.engine_id)

    return min(
        (load for load in loads if load.unfinished_tokens <= limits.max_unfinished_tokens), key=order, default=None
    )
