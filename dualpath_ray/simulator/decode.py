"""A simulated decode engine: continuous batching that advances per change of the batch, not per token."""

from collections.abc import Callable
from heapq import heappop, heappush

from dualpath_ray.simulator.costs import DecodeCosts
from dualpath_ray.simulator.events import EventLoop
from dualpath_ray.simulator.node import SimNode
from dualpath_ray.simulator.processor import Processor
from dualpath_ray.simulator.request import SimRequest
from dualpath_ray.traffic.nic import Direction


class DecodeEngine:
    """One engine. Requests join at the end of a step and leave when their last token is there."""

    def __init__(
        self,
        loop: EventLoop,
        node: SimNode,
        index: int,
        processor: Processor,
        costs: DecodeCosts,
        finished: Callable[[SimRequest], None],
    ) -> None:
        self.node, self.index, self.engine_id = node, index, f"{node.name}/e{index}"
        self._loop, self._processor, self._costs, self._finished = loop, processor, costs, finished
        cnic = node.cnics[index]
        self.cnic_in, self.cnic_out = cnic[Direction.IN], cnic[Direction.OUT]
        self.h2d_links = node.h2d_links[index]
        self._active: list[tuple[int, int, SimRequest]] = []  # heap by the step after which it has all its tokens
        self._joining: list[SimRequest] = []
        self._joined: list[SimRequest] = []  # at the last change: their second token comes with the next step
        self._asked = 0
        self.num_steps = 0
        self._context = 0  # tokens of all active sequences
        self._planned = 0  # steps of the work under way

    def join(self, request: SimRequest) -> None:
        """Its prompt is in HBM and its first token is there."""
        self._joining.append(request)
        if not self._active:
            self._go_on()
        elif len(self._joining) == 1:
            self._stop_after_step()

    def _stop_after_step(self) -> None:
        """Plan the work under way anew: it ends with the step that runs now."""
        if self._planned <= 1:
            return
        done_s = self._processor.stop()
        num, context = len(self._active), self._context
        steps = min(self._costs.whole_steps(done_s, num, context) + 1, self._planned)
        left_s = max(0.0, self._costs.steps_s(steps, num, context) - done_s)
        self._planned = steps
        self._processor.start(left_s, self._on_steps)

    def _go_on(self) -> None:
        """Take in who waits, and work until the first of the batch has all its tokens."""
        fresh, self._joining = self._joining, []
        self._joined += fresh  # some may still wait for their second token: no step has passed
        for request in fresh:
            self._asked += 1
            last_step = self.num_steps + request.gen_tokens - 1
            heappush(self._active, (last_step, self._asked, request))
            self._context += request.request.prompt_tokens + 1
        if self._active:
            planned = self._active[0][0] - self.num_steps
            num, context = len(self._active), self._context
            if self._joined and planned:
                if self._processor.shared:  # only its end tells when the first step is over
                    planned = 1
                else:
                    self._second_tokens(self._loop.now_s + self._costs.steps_s(1, num, context))
            self._planned = planned
            self._processor.start(self._costs.steps_s(planned, num, context), self._on_steps)

    def _second_tokens(self, at_s: float) -> None:
        for request in self._joined:
            request.second_token_s = at_s
        self._joined = []

    def _on_steps(self, _: None) -> None:
        steps = self._planned
        if self._joined and steps:
            self._second_tokens(self._loop.now_s)
        self.num_steps += steps
        self._context += steps * len(self._active)
        active, ended = self._active, []
        while active and active[0][0] <= self.num_steps:
            request = heappop(active)[2]
            self._context -= request.request.prompt_tokens + request.gen_tokens
            ended.append(request)
        self._go_on()
        for request in ended:
            self._finished(request)
