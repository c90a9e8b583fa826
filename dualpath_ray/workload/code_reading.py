"""The default workload: an agent that reads the Python standard library of the machine it runs on.

Its appended text is the real output of listing, searching and reading files, so prefill works on real text without any
download. Lengths follow Table 2 at a smaller scale: a first prompt of about 20 % of the total, which with many turns
puts the mean context at 0.6 of the total, then appends drawn log-normally.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.workload import chat
from dualpath_ray.workload.lengths import split_total, stratified
from dualpath_ray.workload.stdlib_text import StandardLibrary
from dualpath_ray.workload.token_ids import stable_seed
from dualpath_ray.workload.trajectory import TokenIds, Trajectory, Turn

FIRST_SHARE = 0.20
FOCUS_SHARE = 0.5  # of the turns look at the file that the task names, the others elsewhere
TOTAL_SPREAD = 0.10  # a trajectory's total is uniform within this share of the mean
INSTRUCTION = (
    "You read source code with a shell. After each command you are shown its output. "
    "Say in a few words what you learned, then give the next command."
)
Encode = Callable[[str], list[int]]


def generate(
    *,
    num_trajectories: int,
    num_turns: int,
    total_tokens: int,
    gen_tokens: int,
    seed: int,
    encode: Encode,
    library: StandardLibrary | None = None,
) -> list[Trajectory]:
    """Trajectories of exactly ``num_turns`` turns, each generating ``gen_tokens``; totals within 10 % of the mean.

    Args:   total_tokens: mean total of a trajectory, appended and generated.
            encode: text to token ids, adding no special tokens of its own.
    Raises: ConfigError when the total leaves no token to append in some turn, or there is no library to read.
    """
    library = library or StandardLibrary()
    rng = np.random.default_rng(stable_seed("code-reading", seed, num_trajectories, num_turns, total_tokens))
    trajectories = []
    for index, quantile in enumerate(stratified(num_trajectories, rng)):
        # Truncation keeps the total inside the promised range.
        total = total_tokens + int(total_tokens * TOTAL_SPREAD * (2 * quantile - 1))
        appends = _append_lengths(total, num_turns, gen_tokens, rng)
        focus = library.files[int(rng.integers(len(library.files)))]
        # The name comes first: were the prompts alike at their start, one trajectory would hit the other's blocks.
        text = chat.message("system", f"You are agent {index} of run {seed}. {INSTRUCTION}")
        text += f"{chat.opening('user')}Task: explain how {focus} works and where it checks its arguments.\n"
        turns = []
        for append in appends:
            looked_at = focus if rng.random() < FOCUS_SHARE else library.files[int(rng.integers(len(library.files)))]
            turns.append(Turn(_exactly(append, text, library, looked_at, rng, encode), gen_tokens))
            text = f"\n{chat.opening('user')}"
        trajectories.append(Trajectory(f"code-reading-{seed}-{index}", tuple(turns)))
    return trajectories


def _append_lengths(total: int, num_turns: int, gen_tokens: int, rng: np.random.Generator) -> list[int]:
    appended = total - num_turns * gen_tokens
    if appended < num_turns:
        raise ConfigError(
            f"trace code-reading: {num_turns} turns of {gen_tokens} generated tokens leave nothing to append "
            f"in {total} tokens; raise total_tokens or lower gen_tokens or the number of turns"
        )
    if num_turns == 1:
        return [appended]
    first = max(1, min(round(FIRST_SHARE * total), appended - (num_turns - 1)))
    return [first, *split_total(appended - first, num_turns - 1, rng)]


def _exactly(
    num_tokens: int, head: str, library: StandardLibrary, looked_at: Path, rng: np.random.Generator, encode: Encode
) -> TokenIds:
    """``head``, outputs of commands on one file and the closing of the message: cut to ``num_tokens``, int32.

    The cut falls into the last output.
    """
    closing = encode(chat.CLOSING)
    ids = list(encode(head))
    while len(ids) + len(closing) < num_tokens:
        ids += encode(library.command(looked_at, rng) + "\n")
    kept = max(0, num_tokens - len(closing))  # a turn shorter than its closing is the start of the closing
    return np.asarray((ids[:kept] + closing)[:num_tokens], dtype=np.int32)
