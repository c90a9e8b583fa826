"""What a workload is, in the numbers of the paper's Table 2."""

from collections.abc import Sequence
from typing import TypedDict

from dualpath_ray.workload.trajectory import Trajectory


class WorkloadStatistics(TypedDict):
    """Means in tokens. ``append`` and ``gen`` are over all turns (token-weighted); the ``_per_trajectory`` ones are
    means of each trajectory's own mean, as in Table 2, and so are ``turns``, ``total`` and ``mean_context``.
    ``hit_ratio`` is the share of prompt tokens that an endless cache inside the trajectory holds; ``cut_trajectories``
    are those that the context limit ended early."""

    trajectories: int
    cut_trajectories: int
    turns: float
    append: float
    gen: float
    append_per_trajectory: float
    gen_per_trajectory: float
    total: float
    mean_context: float
    hit_ratio: float


def statistics(trajectories: Sequence[Trajectory], block_tokens: int = 1) -> WorkloadStatistics:
    """Statistics of a workload; context is what stands before a turn's append.

    Args:   block_tokens: hits are rounded down to whole blocks of this size.
    Raises: ValueError for an empty workload.
    """
    if not trajectories:
        raise ValueError("no trajectories to count")
    num_turns = append = gen = hit = prompt = 0
    mean_append = mean_gen = mean_context = 0.0
    for trajectory in trajectories:
        context = contexts = 0
        appended = generated = 0
        for turn in trajectory.turns:
            contexts += context
            hit += context // block_tokens * block_tokens
            prompt += context + turn.append_tokens
            appended += turn.append_tokens
            generated += turn.gen_tokens
            context += turn.append_tokens + turn.gen_tokens
        count = len(trajectory.turns)
        num_turns, append, gen = num_turns + count, append + appended, gen + generated
        if count:
            mean_append += appended / count
            mean_gen += generated / count
            mean_context += contexts / count
    size = len(trajectories)
    return WorkloadStatistics(
        trajectories=size,
        cut_trajectories=sum(trajectory.cut for trajectory in trajectories),
        turns=num_turns / size,
        append=append / num_turns if num_turns else 0.0,
        gen=gen / num_turns if num_turns else 0.0,
        append_per_trajectory=mean_append / size,
        gen_per_trajectory=mean_gen / size,
        total=(append + gen) / size,
        mean_context=mean_context / size,
        hit_ratio=hit / prompt if prompt else 0.0,
    )
