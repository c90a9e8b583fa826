"""Proof that tokens are the model's own: one plain transformers forward over each final context, in the same dtype.

No block, no cache, no packing of ours takes part. End tokens are masked, as the replay masks them. Where KV is stored in a
type of fewer bits, the plain model's is rounded the same way; how many tokens that changes is told apart.
"""

from collections.abc import Sequence
from typing import Any

import torch

from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.kv_type import TORCH_DTYPES, KvType
from dualpath_ray.engine.model import load_model
from dualpath_ray.engine.rounded_cache import RoundedCache

# Logits closer than this may swap, since matrix products depend on the shape of a batch: an absolute difference, or a few
# spacings of the type, of which sums of different order end apart.
NEAR_TIE, NEAR_SPACINGS = 1e-3, 4
MOST_NEAR_TIES = {"float32": 0.005, "bfloat16": 0.02}  # of the tokens compared


class PlainModel:
    """The model as transformers runs it by itself."""

    def __init__(
        self,
        description: ModelDescription,
        seed: int,
        dtype: str = "float32",
        device: str = "cpu",
        kv_dtype: str | None = None,
    ) -> None:
        """Args: kv_dtype: in which KV is stored, if not in ``dtype``."""
        self._description, self._device = description, device
        self._spacing = torch.finfo(TORCH_DTYPES[dtype]).eps
        self._type = KvType(TORCH_DTYPES[kv_dtype or dtype], TORCH_DTYPES[dtype])
        self._model = load_model(description.model, TORCH_DTYPES[dtype], seed, device)

    @property
    def rounds(self) -> bool:
        """Whether KV is stored in another type than the model computes in."""
        return self._type.converts

    def _cache(self) -> dict[str, Any]:
        """How the model's own KV is kept, as it takes it."""
        if not self.rounds:
            return {}
        return {"past_key_values": RoundedCache(self._type, self._model.config), "use_cache": True}

    @torch.inference_mode()
    def _logits(self, ids: torch.Tensor, positions: torch.Tensor, rounded: bool) -> torch.Tensor:
        """Of the tokens at these positions, float32 [positions, vocab_size] in DRAM; end tokens are masked."""
        cache = self._cache() if rounded else {}
        wanted = (positions - 1).to(self._device)
        out = self._model(input_ids=ids.to(self._device), logits_to_keep=wanted, **{"use_cache": False, **cache})
        logits: torch.Tensor = out.logits[0].float().cpu()
        if self._description.end_token_ids:
            logits = logits.index_fill(1, torch.tensor(self._description.end_token_ids), float("-inf"))
        return logits

    def check(self, context: Sequence[int], spans: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
        """(tokens compared, near ties, wrong tokens) of the generated spans [start, stop) of a final context.

        A token is right when it is the argmax of the plain forward at its position, and a near tie when its logit is
        as near to the argmax's as ``NEAR_TIE`` and ``NEAR_SPACINGS`` say.
        """
        ids, positions = torch.tensor(context)[None], _positions(spans)
        if not len(positions):
            return 0, 0, 0
        logits = self._logits(ids, positions, True)
        best = logits.max(1).values
        chosen = logits.gather(1, ids[0, positions][:, None])[:, 0]
        argmax = logits.argmax(1) == ids[0, positions]
        tolerance = (NEAR_SPACINGS * self._spacing * best.abs()).clamp(min=NEAR_TIE)
        near = ~argmax & (best - chosen <= tolerance)
        return len(positions), int(near.sum()), int((~argmax & ~near).sum())

    def changed_by_rounding(self, context: Sequence[int], spans: Sequence[tuple[int, int]]) -> int:
        """Tokens of these spans that the plain model chooses otherwise with its KV as it is computed."""
        ids, positions = torch.tensor(context)[None], _positions(spans)
        if not self.rounds or not len(positions):
            return 0
        exact, rounded = (self._logits(ids, positions, how).argmax(1) for how in (False, True))
        return int((exact != rounded).sum())

    def generate_again(
        self, context: Sequence[int], spans: Sequence[tuple[int, int]], known: dict[tuple[int, ...], list[int]]
    ) -> int:
        """Tokens of a final context that ``generate`` itself chooses otherwise, turn by turn; near ties do not count.

        ``known`` keeps answers by prompt: runs that agree share the work.
        """
        wrong = 0
        for start, stop in spans:
            prompt = tuple(context[:start])
            if prompt not in known:
                known[prompt] = self.generate(prompt, stop - start)
            ours, theirs = list(context[start:stop]), known[prompt]
            first = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
            if first is not None:  # after a near tie the continuations differ: the forward check tells which it was
                wrong += self.check(context, [(start + first, start + first + 1)])[2]
        return wrong

    @torch.inference_mode()
    def generate(self, prompt: Sequence[int], num_tokens: int) -> list[int]:
        """What transformers' own ``generate`` continues with: greedy, exactly ``num_tokens``, end tokens masked."""
        ids = torch.tensor(prompt, device=self._device)[None]
        out = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
            suppress_tokens=list(self._description.end_token_ids) or None,
            **self._cache(),
        )
        new: list[int] = out[0, len(prompt) :].tolist()
        return new


def check_all(
    plain: PlainModel,
    contexts: dict[str, list[int]],
    spans: dict[str, list[tuple[int, int]]],
    known: dict[tuple[int, ...], tuple[int, int, int]],
) -> tuple[int, int, int]:
    """Sums of ``check`` over trajectories. ``known`` keeps answers: runs that agree share the work."""
    total = [0, 0, 0]
    for trajectory, context in contexts.items():
        key = tuple(context)
        if key not in known:
            known[key] = plain.check(context, spans[trajectory])
        total = [a + b for a, b in zip(total, known[key], strict=True)]
    return total[0], total[1], total[2]


def _positions(spans: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([p for start, stop in spans for p in range(start, stop)])
