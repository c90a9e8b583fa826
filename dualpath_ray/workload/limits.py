"""Fitting a workload to a model and a machine: lengths scaled, turns and contexts limited. Pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload.token_ids import random_ids, stable_seed
from dualpath_ray.workload.trajectory import TokenIds, Trajectory, TrajectoryLengths, Turn

PREPENDED_TOKENS = 64  # of the random first round of a repeated trajectory: no block after it can hit another's


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run asks of its workload; ``None`` leaves the trace's own value.

    ``token_scale`` multiplies append and gen lengths (at least one token stays). ``gen_tokens`` replaces every gen
    length, ``max_gen`` caps it. ``contiguous`` tells how a scaled append keeps its meaning: text is cut from its end;
    of hashed blocks every n-th token is kept, so that the shared part of two prompts stays the same share.
    """

    max_context_tokens: int
    max_turns: int | None = None
    token_scale: float = 1.0
    max_gen: int | None = None
    gen_tokens: int | None = None
    tool_delays: bool = True
    contiguous: bool = False

    def __post_init__(self) -> None:
        for name in ("max_context_tokens", "max_turns", "max_gen", "gen_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"workload: {name} must be at least 1, not {value}")
        if not 0 < self.token_scale < float("inf"):
            raise ConfigError(f"workload: token_scale must be above 0, not {self.token_scale}")


def scale_ids(ids: TokenIds, scale: float, contiguous: bool) -> TokenIds:
    """``ids`` at round(scale * tokens) tokens, at least one: cut or repeated in a circle, else sampled evenly."""
    if scale == 1.0:
        return ids
    count = max(1, round(len(ids) * scale))
    if contiguous:
        return np.resize(ids, count)
    # The index depends on the position alone, not on the length: two prompts that share a prefix still do.
    index = np.minimum((np.arange(count) / scale).astype(np.int64), len(ids) - 1)
    return ids[index]


def apply_limits(trajectory: Trajectory, limits: Limits, trace: str) -> Trajectory:
    """The trajectory scaled and cut: it ends before the first turn whose context would pass the limit.

    Raises: ConfigError naming trace, trajectory and limit when not even the first turn fits.
    """
    wanted = trajectory.turns[: limits.max_turns]
    scaled = [_limit_turn(turn, limits) for turn in wanted]
    lengths = [turn.append_tokens + turn.gen_tokens for turn in scaled]
    kept = _turns_that_fit(trajectory.trajectory_id, lengths, limits, trace)
    return Trajectory(trajectory.trajectory_id, tuple(scaled[:kept]), cut=kept < len(wanted))


def limit_lengths(trajectory: TrajectoryLengths, limits: Limits, trace: str) -> TrajectoryLengths:
    """As ``apply_limits``, where there are no tokens.

    Raises: ConfigError as there.
    """
    scaled = [
        (
            max(1, round(append * limits.token_scale)),
            _limit_gen(gen, limits),
            delay_s if limits.tool_delays else 0.0,
        )
        for append, gen, delay_s in trajectory.turns[: limits.max_turns]
    ]
    kept = _turns_that_fit(trajectory.trajectory_id, [append + gen for append, gen, _ in scaled], limits, trace)
    return TrajectoryLengths(trajectory.trajectory_id, tuple(scaled[:kept]))


def _turns_that_fit(trajectory_id: str, lengths: Sequence[int], limits: Limits, trace: str) -> int:
    """How many turns, of so many appended and generated tokens each, end within the limit."""
    context = 0
    for turn, tokens in enumerate(lengths):
        context += tokens
        if context > limits.max_context_tokens:
            if not turn:
                raise ConfigError(
                    f"trace {trace}: the first turn of trajectory {trajectory_id} needs {context} tokens, "
                    f"above the limit of {limits.max_context_tokens}; try --token-scale "
                    f"{_fitting_scale(limits, context):.2g}"
                )
            return turn
    return len(lengths)


def _limit_turn(turn: Turn, limits: Limits) -> Turn:
    ids = scale_ids(turn.append_ids, limits.token_scale, limits.contiguous)
    gen = _limit_gen(turn.gen_tokens, limits)
    return Turn(ids, gen, turn.tool_delay_s if limits.tool_delays else 0.0)


def _limit_gen(gen_tokens: int, limits: Limits) -> int:
    gen = max(1, round(gen_tokens * limits.token_scale))
    if limits.gen_tokens is not None:
        gen = limits.gen_tokens
    return min(gen, limits.max_gen) if limits.max_gen is not None else gen


def _fitting_scale(limits: Limits, context_tokens: int) -> float:
    """A scale at which this first turn takes at most half of the limit, so that later turns have room."""
    return limits.token_scale * limits.max_context_tokens / context_tokens / 2


def repeated(
    trajectories: list[Trajectory], count: int, limits: Limits, trace: str, seed: int, vocab_size: int
) -> Iterator[Trajectory]:
    """``count`` limited trajectories: those of the trace, then repeats of them, each with a random first round.

    The prepended round generates one token (section 7, "Replay"), so a repeat hits none of its original's blocks.
    """
    first_round = max(1, round(PREPENDED_TOKENS * limits.token_scale))
    # The first round and its answer take room; a limit too small even for them is reported for the trace's own turn.
    shorter = replace(limits, max_context_tokens=max(1, limits.max_context_tokens - first_round - 1))
    for index in range(count):
        original, repeat = trajectories[index % len(trajectories)], index // len(trajectories)
        if repeat == 0:
            yield apply_limits(original, limits, trace)
            continue
        name = f"{original.trajectory_id}~{repeat}"
        fitted = apply_limits(Trajectory(name, original.turns), shorter, trace)
        ids = random_ids(stable_seed("repeat", seed, name), first_round, vocab_size)
        yield Trajectory(name, (Turn(ids, 1), *fitted.turns), fitted.cut)
