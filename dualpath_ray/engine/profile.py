"""Measuring the engine at hand: the predictor of the compute quota, and beta (section 6)."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dualpath_ray.scheduler.intra_engine import AttentionPredictor

if TYPE_CHECKING:  # a profile is also read where no engine runs
    from dualpath_ray.engine.model import ModelAdapter

BETA_S = 5.0  # beta is what a GPU processes in this time
ALPHA_S = 3.0  # alpha is what a node reads in this time


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """What was measured. ``prompt_tokens_per_s`` counts cached tokens too, at nine cached for one new.

    ``read_bytes_per_s``: of a node from the store; 0 when it was not measured.
    """

    s_per_flop: float
    overhead_s: float
    prompt_tokens_per_s: float
    new_tokens_per_s: float
    read_bytes_per_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def predictor(self, num_heads: int, head_dim: int) -> AttentionPredictor:
        return AttentionPredictor(num_heads, head_dim, self.s_per_flop, self.overhead_s)

    def beta_tokens(self) -> int:
        return max(1, int(self.prompt_tokens_per_s * BETA_S))


class _HeldKv:
    """LayerKv, or HbmKv, that keeps everything in memory; for measuring without a traffic manager."""

    first_rows = [0]

    def __init__(self, device: str, bytes_per_token_layer: int, num_tokens: int) -> None:
        import torch

        self._rows = torch.zeros(num_tokens, bytes_per_token_layer, dtype=torch.uint8, device=device)

    def begin_layer(self, layer: int) -> Any:
        return [self._rows] if self._rows.device.type == "cpu" else self._rows

    def end_layer(self, layer: int) -> None:
        """The rows of all layers are the same memory: only time is measured."""


def profile_engine(adapter: "ModelAdapter", max_context_tokens: int, repeats: int = 3) -> EngineProfile:
    """Profile an engine in a few seconds; the first forwards also warm it up."""
    description = adapter.description
    s_per_flop, overhead_s = _fit_attention(adapter, min(2048, max_context_tokens), repeats)
    cached = min(576, max(1, max_context_tokens * 9 // 10))
    new = max(1, cached // 9)
    per_token = description.kv_elements_per_token_layer * adapter.kv_type.stored.itemsize

    def forward() -> None:
        kv = _HeldKv(adapter.device, per_token, cached + new)
        adapter.forward([[16] * new], [cached], kv, [0])

    took = _median_s(forward, repeats)
    return EngineProfile(s_per_flop, overhead_s, (cached + new) / took, new / took)


def _fit_attention(adapter: "ModelAdapter", longest: int, repeats: int) -> tuple[float, float]:
    """Least squares of one layer's attention time over its FLOPs."""
    import torch
    import torch.nn.functional as functional

    description = adapter.description
    heads, dim = description.num_heads, description.head_dim
    unit = AttentionPredictor(heads, dim, 1.0)
    points: list[tuple[float, float]] = []
    for cached, bsz in ((longest // 8, 16), (longest // 4, 32), (longest // 2, 64), (longest, 64)):
        q = torch.randn(1, heads, bsz, dim, dtype=adapter.dtype, device=adapter.device)
        k = torch.randn(1, heads, cached + bsz, dim, dtype=adapter.dtype, device=adapter.device)
        mask = torch.ones(bsz, cached + bsz, dtype=torch.bool, device=adapter.device).tril(cached)

        def attend(q: torch.Tensor = q, k: torch.Tensor = k, mask: torch.Tensor = mask) -> None:
            functional.scaled_dot_product_attention(q, k, k, attn_mask=mask)
            if adapter.device == "cuda":
                torch.cuda.synchronize()

        points.append((unit.flops(cached, bsz), _median_s(attend, repeats)))
    mean_x, mean_y = (statistics.fmean(values) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    if slope <= 0:  # noise on a busy machine: fall back on the largest point alone
        return points[-1][1] / points[-1][0], 0.0
    return slope, max(0.0, mean_y - slope * mean_x)


def _median_s(run: Callable[[], None], repeats: int) -> float:
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
