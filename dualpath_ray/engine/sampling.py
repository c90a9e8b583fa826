"""Choosing a token from logits: greedy or seeded, the same whatever else is in the batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dualpath_ray.base.errors import RequestRefusedError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a request generates. ``temperature`` 0 is greedy.

    ``ignore_end``: end tokens are masked, so that exactly ``max_tokens`` come out (replay of a trace).
    """

    max_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    seed: int = 0
    num_samples: int = 1
    ignore_end: bool = False
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, ok in (
            ("max_tokens", self.max_tokens >= 1),
            ("temperature", self.temperature >= 0),
            ("top_p", 0 < self.top_p <= 1),
            ("top_k", self.top_k >= 0),
            ("num_samples", self.num_samples >= 1),
        ):
            if not ok:
                raise RequestRefusedError(f"{name}: {getattr(self, name)} is out of range")


def sample(
    logits: "torch.Tensor", params: SamplingParams, end_token_ids: tuple[int, ...], sample_index: int, position: int
) -> tuple[int, float]:
    """One token and its log-probability (of the distribution at temperature 1, end tokens masked if ignored).

    Args: logits: float32 [vocab_size]; position: of the token in its context. With ``sample_index`` and the seed it
        fixes the random draw, so a request's tokens depend on nothing else.
    """
    import torch  # late: whoever only names SamplingParams must not wait for it

    if params.ignore_end and end_token_ids:
        logits = logits.index_fill(0, torch.tensor(end_token_ids), float("-inf"))
    if params.temperature == 0:
        token = int(logits.argmax())
    else:
        generator = torch.Generator().manual_seed(_draw_seed(params.seed, sample_index, position))
        weights = _truncated(logits / params.temperature, params).softmax(0)
        token = int(torch.multinomial(weights, 1, generator=generator))
    return token, float(logits.log_softmax(0)[token])


def _draw_seed(seed: int, sample_index: int, position: int) -> int:
    mixed = (seed * 0x9E3779B97F4A7C15 + sample_index * 0xBF58476D1CE4E5B9 + position * 0x94D049BB133111EB) % 2**63
    return mixed ^ (mixed >> 29)


def _truncated(logits: "torch.Tensor", params: SamplingParams) -> "torch.Tensor":
    if params.top_k and params.top_k < len(logits):
        least = logits.topk(params.top_k).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if params.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(0).cumsum(0) - ordered.softmax(0)
        logits = logits.index_fill(0, order[before >= params.top_p], float("-inf"))
    return logits
