"""How long an engine computes: a forward batch of prefill, a step of decode. From a data sheet or fitted to a run. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dualpath_ray.models.spec import ModelSpec, attention_flops_per_token


@dataclass(frozen=True, slots=True)
class PrefillCosts:
    """Seconds of a forward batch: ``batch_s``, and for each request ``request_s``, its new tokens and its attention.

    ``token_s``: projections, FFN and everything else that does not depend on the context, per new token.
    ``s_per_attention_flop``: of ``attention_flops_per_token`` of the model.
    """

    batch_s: float
    request_s: float
    token_s: float
    s_per_attention_flop: float


@dataclass(frozen=True, slots=True)
class DecodeCosts:
    """Seconds of a step: ``step_s``, ``sequence_s`` for each sequence, ``context_s`` for each token of their contexts."""

    step_s: float
    sequence_s: float
    context_s: float

    def steps_s(self, num_steps: float, num_sequences: int, context_tokens: int) -> float:
        """Seconds of so many steps of an unchanged batch, whose contexts grow by a token a step.

        Args: context_tokens: of all sequences together before the first step.
        """
        first = self.step_s + self.sequence_s * num_sequences + self.context_s * context_tokens
        return num_steps * (first + self.context_s * num_sequences * (num_steps - 1) / 2)

    def whole_steps(self, work_s: float, num_sequences: int, context_tokens: int) -> int:
        """Steps that are over after ``work_s``: the inverse of ``steps_s``, rounded down."""
        growth = self.context_s * num_sequences / 2
        first = self.step_s + self.sequence_s * num_sequences + self.context_s * context_tokens - growth
        if growth * work_s < 1e-9 * first * first:
            steps = work_s / first
        else:
            steps = (math.sqrt(first * first + 4 * growth * work_s) - first) / (2 * growth)
        return int(steps + 1e-6)


class StepTimes(NamedTuple):
    """Seconds: of the whole batch; of the attention of the slowest engine in it; and of the mean engine's."""

    work_s: float
    slowest_attention_s: float
    mean_attention_s: float


class PrefillModel:
    """The time of a batch, and the attention of a request in one layer as the compute quota predicts it (section 6)."""

    def __init__(self, costs: PrefillCosts, model: ModelSpec) -> None:
        self._costs, self._model = costs, model

    def attention_s(self, cached_tokens: int, bsz: int) -> float:
        """All layers' attention of ``bsz`` new tokens behind ``cached_tokens``; each sees half of the new ones too."""
        context = cached_tokens + (bsz + 1) / 2
        return bsz * attention_flops_per_token(self._model, context) * self._costs.s_per_attention_flop

    def predict_s(self, cached_tokens: int, bsz: int) -> float:
        """As ``intra_engine.pack_batch`` asks: the attention of one layer."""
        return self.attention_s(cached_tokens, bsz) / self._model.num_layers

    def in_step(self, batches: Iterable[Sequence[tuple[int, int]]], num_engines: int) -> "StepTimes":
        """The batches of engines that compute in step, each of (cached tokens, new tokens).

        Attention takes as long as the slowest engine's; projections and experts are spread over all of them.
        """
        costs = self._costs
        slowest = total = num_new = 0.0
        num_requests = 0
        for batch in batches:
            attention = 0.0
            for cached, new in batch:
                attention += self.attention_s(cached, new)
                num_new += new
            num_requests += len(batch)
            total += attention
            if attention > slowest:
                slowest = attention
        spread = (costs.token_s * num_new + costs.request_s * num_requests) / num_engines
        return StepTimes(costs.batch_s + slowest + spread, slowest, total / num_engines)

    def prompt_tokens_per_s(self, cached_tokens: int, new_tokens: int) -> float:
        """Prompt tokens, cached ones included, that an engine gets through: what beta is made of."""
        alone = self.in_step([[(cached_tokens, new_tokens)]], 1).work_s - self._costs.batch_s
        return (cached_tokens + new_tokens) / alone
