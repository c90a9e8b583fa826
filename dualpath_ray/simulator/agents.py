"""The agents of a simulated job: each submits its next turn when its turn before has ended (section 7, "Replay")."""

from collections.abc import Sequence

from dualpath_ray.scheduler.state import Request
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.simulator.system import SimSystem
from dualpath_ray.workload.limits import PREPENDED_TOKENS
from dualpath_ray.workload.trajectory import TrajectoryLengths


class Agents:
    """Agents that replay trajectories; where there are more of them, a repeat begins with a random first round.

    ``replace_ended`` may be set: for every agent that has ended the next one comes, so their number stays the same.
    """

    def __init__(
        self, loop: EventLoop, trajectories: Sequence[TrajectoryLengths], block_tokens: int, turn_s: float
    ) -> None:
        """Args: turn_s: that an agent takes from a turn's end to the next submit, without its tool."""
        self._loop, self._trajectories, self._block_tokens, self._turn_s = loop, trajectories, block_tokens, turn_s
        self._turn: list[int] = []
        self._context: list[int] = []
        self._written_s: list[float] = []
        self.num_done = 0
        self.replace_ended = False

    @property
    def num_arrived(self) -> int:
        """Agents that have come so far."""
        return len(self._turn)

    def attach(self, system: SimSystem) -> None:
        """The system that they submit to; it tells ``on_end`` of every request that is over."""
        self._system = system

    def name(self, agent: int) -> str:
        """Trajectory id of an agent."""
        original = self._trajectories[agent % len(self._trajectories)].trajectory_id
        repeat = agent // len(self._trajectories)
        return f"{original}~{repeat}" if repeat else original

    def arrive(self, count: int) -> None:
        """So many agents come now and submit their first turns together."""
        first = len(self._turn)
        for agent in range(first, first + count):
            self._turn.append(0)
            self._context.append(self._trajectories[agent].stored_tokens if agent < len(self._trajectories) else 0)
            self._written_s.append(0.0)
        self._system.submit(self._next(agent) for agent in range(first, first + count))

    def on_end(self, request: SimRequest) -> None:
        """A turn is over: the next one, after its tool's delay."""
        agent = request.agent
        self._context[agent] = request.request.prompt_tokens + request.gen_tokens
        self._written_s[agent] = request.written_s
        self._turn[agent] += 1
        length = self._length(agent, self._turn[agent])
        if length is None:
            self.num_done += 1
            if self.replace_ended:
                self.arrive(1)
        elif (delay_s := length[2] + self._turn_s) > 0:
            self._loop.at(self._loop.now_s + delay_s, self._submit, agent)
        else:
            self._submit(agent)

    def _submit(self, agent: int) -> None:
        self._system.submit((self._next(agent),))

    def _length(self, agent: int, turn: int) -> tuple[int, int, float] | None:
        count = len(self._trajectories)
        if agent >= count:
            if turn == 0:
                return PREPENDED_TOKENS, 1, 0.0
            turn -= 1
        turns = self._trajectories[agent % count].turns
        return turns[turn] if turn < len(turns) else None

    def _next(self, agent: int) -> SimRequest:
        turn, context = self._turn[agent], self._context[agent]
        length = self._length(agent, turn)
        assert length is not None
        append, gen, _ = length
        size = self._block_tokens
        hit = (context - 1) // size * size if context else 0  # the last token has no KV, nor a part of a block
        name = str(agent)
        request = Request(f"{name}/{turn}", 1, name, context + append, hit, gen)
        return SimRequest(request, agent, turn, append, gen, self._loop.now_s, self._written_s[agent])
