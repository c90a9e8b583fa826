"""What a turn of a workload asks of a cluster, in means over all turns: tokens to load, to compute and to generate."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.models.spec import attention_flops_per_token
from dualpath_ray.simulator.spec import ClusterSpec
from dualpath_ray.workload.trajectory import TrajectoryLengths


@dataclass(frozen=True, slots=True)
class TurnWork:
    """Means over turns; what counts tokens is in tokens."""

    turns: float  # of an agent
    hit: float
    miss: float  # of the prompt: computed by prefill
    gen: float
    attention_flops: float  # of the new tokens of a prompt, all layers
    delay_s: float  # from a turn's end to the next submit: the tool, and the agent itself

    @property
    def prompt(self) -> float:
        return self.hit + self.miss

    @property
    def steps(self) -> float:
        """Decode steps: prefill gives the first token."""
        return max(0.0, self.gen - 1)

    @property
    def decode_context(self) -> float:
        """Context of a decode step, half way through the turn."""
        return self.prompt + self.gen / 2


def turn_work(trajectories: Sequence[TrajectoryLengths], spec: ClusterSpec) -> TurnWork:
    """Of these trajectories, whose whole blocks are stored turn by turn.

    Raises: ConfigError when they have no turn.
    """
    model, block_tokens = spec.model, spec.layout.block_tokens
    num = hit = miss = gen = 0
    attention = delays_s = 0.0
    for trajectory in trajectories:
        context = trajectory.stored_tokens
        for append, generated, delay_s in trajectory.turns:
            found = (context - 1) // block_tokens * block_tokens if context else 0
            new = context + append - found
            num, hit, miss, gen = num + 1, hit + found, miss + new, gen + generated
            attention += new * attention_flops_per_token(model, found + (new + 1) / 2)
            delays_s += delay_s
            context += append + generated
    if not num:
        raise ConfigError("trace: there is no turn in it")
    return TurnWork(
        num / len(trajectories), hit / num, miss / num, gen / num, attention / num, delays_s / num + spec.delays.turn_s
    )
