"""What an agent does, as the driver replays it: turns of appended and generated tokens (section 7, "Replay")."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One round: the prompt is everything before plus ``append_ids``, then ``gen_tokens`` tokens are generated.

    ``append_ids`` is int32 [append_tokens]. ``tool_delay_s`` is the wait before this turn's request is sent: the
    agent's tool, or the human. ``eq`` is off: arrays have no single truth value.
    """

    append_ids: TokenIds
    gen_tokens: int
    tool_delay_s: float = 0.0

    @property
    def append_tokens(self) -> int:
        return len(self.append_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """The turns of one agent, in order."""

    trajectory_id: str
    turns: tuple[Turn, ...]
    cut: bool = False  # it ends early: its next turn would have passed the context limit

    @property
    def append_tokens(self) -> int:
        """Tokens appended over all turns."""
        return sum(turn.append_tokens for turn in self.turns)

    @property
    def total_tokens(self) -> int:
        """Tokens appended and generated over all turns."""
        return sum(turn.append_tokens + turn.gen_tokens for turn in self.turns)

    @property
    def max_context_tokens(self) -> int:
        """The longest context that the trajectory reaches: contexts only grow, so that at its end."""
        return self.total_tokens


@dataclass(frozen=True, slots=True)
class TrajectoryLengths:
    """A trajectory without its tokens, for whoever only counts them: a turn is (append tokens, gen tokens, tool delay s).

    ``stored_tokens``: context that lies in storage before the first of these turns, of an agent met on its way.
    """

    trajectory_id: str
    turns: tuple[tuple[int, int, float], ...]
    stored_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens stored before, appended and generated over all turns: the longest context that it reaches."""
        return self.stored_tokens + sum(append + gen for append, gen, _ in self.turns)


def lengths_of(trajectory: Trajectory) -> TrajectoryLengths:
    """The lengths of a trajectory."""
    turns = tuple((turn.append_tokens, turn.gen_tokens, turn.tool_delay_s) for turn in trajectory.turns)
    return TrajectoryLengths(trajectory.trajectory_id, turns)
