"""One door to every workload: a named generator or a recorded trace, fitted to a model and a machine."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload import code_reading, synthetic
from dualpath_ray.workload.formats import read_trace
from dualpath_ray.workload.limits import Limits, apply_limits, limit_lengths, repeated
from dualpath_ray.workload.measures import WorkloadStatistics, statistics
from dualpath_ray.workload.token_ids import FIRST_ORDINARY_ID
from dualpath_ray.workload.trajectory import Trajectory, TrajectoryLengths, lengths_of

__all__ = ["WorkloadStatistics", "apply_limits", "load_workload", "statistics"]

CODE_READING = "code-reading"
DEFAULT_TURNS = 12  # of a code-reading trajectory, where max_turns does not say
DEFAULT_GEN_TOKENS = 16
_ANY_VOCABULARY = 50_000  # where only lengths count


def load_workload(
    trace: str,
    *,
    num_trajectories: int,
    max_turns: int | None,
    token_scale: float,
    max_gen: int | None,
    gen_tokens: int | None,
    max_context_tokens: int,
    seed: int,
    encode: Callable[[str], list[int]],
    vocab_size: int,
    total_tokens: int,
    tool_delays: bool,
    repeat: bool = True,
) -> list[Trajectory]:
    """``num_trajectories`` trajectories, in the trace's order; the same for the same arguments on one machine.

    Args:   trace: ``code-reading``, ``table2-32k``, ``table2-48k``, ``table2-64k``, or the path of a recorded trace.
                A trace with fewer trajectories than asked for is repeated, with a random first round prepended.
            max_turns: of a trajectory; for ``code-reading`` the exact number (12 when None).
            token_scale: multiplies append and gen lengths; at least one token stays.
            max_gen, gen_tokens: the most, or the exact number of, tokens to generate in a turn.
            max_context_tokens: a trajectory of a trace ends before the turn that would pass it.
            seed: of generated lengths and of ids where the trace has none; these lie in [16, vocab_size).
            encode: text to token ids, adding no special tokens of its own.
            total_tokens: mean total of a ``code-reading`` trajectory before ``token_scale``; unused otherwise.
            tool_delays: keep the trace's delays before turns; without them every delay is 0.
            repeat: a trace with fewer trajectories than asked for; without it, it yields those that it has.
    Raises: ConfigError for a trace that is unknown, broken, too long in some first turn or has one id twice, for
            ``code-reading`` trajectories that pass the context limit, and for a bad limit.
    """
    if num_trajectories < 1:
        raise ConfigError(f"workload: num_trajectories must be at least 1, not {num_trajectories}")
    if vocab_size <= FIRST_ORDINARY_ID:
        raise ConfigError(f"workload: a vocabulary of {vocab_size} tokens leaves no ordinary ones")
    limits = Limits(
        max_context_tokens=max_context_tokens,
        max_turns=max_turns,
        token_scale=token_scale,
        max_gen=max_gen,
        gen_tokens=gen_tokens,
        tool_delays=tool_delays,
    )
    if trace == CODE_READING:
        return _code_reading(limits, num_trajectories, total_tokens, seed, encode)
    if trace in synthetic.TABLE_2:
        shape = synthetic.TABLE_2[trace]
        generated = synthetic.generate(shape, num_trajectories=num_trajectories, seed=seed, vocab_size=vocab_size)
        return [apply_limits(trajectory, limits, trace) for trajectory in generated]
    return _recorded(trace, limits, num_trajectories, seed, encode, vocab_size, repeat)


def load_lengths(
    trace: str,
    *,
    num_trajectories: int,
    max_turns: int | None,
    token_scale: float,
    max_gen: int | None,
    gen_tokens: int | None,
    max_context_tokens: int,
    seed: int,
    encode: Callable[[str], list[int]],
    total_tokens: int,
    tool_delays: bool,
) -> list[TrajectoryLengths]:
    """As ``load_workload``, without tokens; of a trace with fewer trajectories than asked for, those that there are.

    Raises: ConfigError as ``load_workload``.
    """
    if trace not in synthetic.TABLE_2:
        trajectories = load_workload(
            trace,
            num_trajectories=num_trajectories,
            max_turns=max_turns,
            token_scale=token_scale,
            max_gen=max_gen,
            gen_tokens=gen_tokens,
            max_context_tokens=max_context_tokens,
            seed=seed,
            encode=encode,
            vocab_size=_ANY_VOCABULARY,
            total_tokens=total_tokens,
            tool_delays=tool_delays,
            repeat=False,
        )
        return [lengths_of(trajectory) for trajectory in trajectories]
    if num_trajectories < 1:
        raise ConfigError(f"workload: num_trajectories must be at least 1, not {num_trajectories}")
    limits = Limits(max_context_tokens, max_turns, token_scale, max_gen, gen_tokens, tool_delays)
    count = min(num_trajectories, synthetic.PAPER_TRAJECTORIES)
    generated = synthetic.generate_lengths(synthetic.TABLE_2[trace], num_trajectories=count, seed=seed)
    return [limit_lengths(trajectory, limits, trace) for trajectory in generated]


def _code_reading(
    limits: Limits, num_trajectories: int, total_tokens: int, seed: int, encode: Callable[[str], list[int]]
) -> list[Trajectory]:
    """Made at its final lengths: real text is better written to a length than scaled."""
    gen = limits.gen_tokens or max(1, round(DEFAULT_GEN_TOKENS * limits.token_scale))
    trajectories = code_reading.generate(
        num_trajectories=num_trajectories,
        num_turns=limits.max_turns or DEFAULT_TURNS,
        total_tokens=round(total_tokens * limits.token_scale),
        gen_tokens=min(gen, limits.max_gen) if limits.max_gen else gen,
        seed=seed,
        encode=encode,
    )
    longest = max(trajectories, key=lambda trajectory: trajectory.total_tokens)
    if longest.total_tokens > limits.max_context_tokens:
        raise ConfigError(
            f"trace {CODE_READING}: trajectory {longest.trajectory_id} would reach {longest.total_tokens} tokens, above the "
            f"limit of {limits.max_context_tokens}; make --total-tokens, --token-scale or --max-turns smaller"
        )
    return trajectories


def _recorded(
    trace: str,
    limits: Limits,
    num_trajectories: int,
    seed: int,
    encode: Callable[[str], list[int]],
    vocab_size: int,
    repeat: bool,
) -> list[Trajectory]:
    path = Path(trace).expanduser()
    if not path.is_file():
        known = ", ".join([CODE_READING, *synthetic.TABLE_2])
        raise ConfigError(f"trace {trace}: no such file; give {known} or a .jsonl or .jsonl.gz file")
    name, trajectories = read_trace(path, encode=encode, vocab_size=vocab_size, seed=seed)
    chosen = list(islice(trajectories, num_trajectories))
    seen: set[str] = set()
    for trajectory in chosen:
        if trajectory.trajectory_id in seen:
            raise ConfigError(
                f"trace {trace}: two trajectories have the id {trajectory.trajectory_id}; give each its own"
            )
        seen.add(trajectory.trajectory_id)
    limits = replace(limits, contiguous=name == "text")
    count = num_trajectories if repeat else len(chosen)
    return list(repeated(chosen, count, limits, trace, seed, vocab_size))
