"""What the loops of an engine ask of a model, and which model that is."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dualpath_ray.engine.describe import ModelDescription
from dualpath_ray.engine.profile import EngineProfile
from dualpath_ray.engine.timed import is_timed

if TYPE_CHECKING:  # torch and transformers take seconds
    import torch


class Adapter(Protocol):
    """Packed forwards over ragged requests, with their KV in our layout (``engine/model.py``)."""

    @property
    def description(self) -> ModelDescription: ...

    def forward(
        self, token_ids: Sequence[Sequence[int]], starts: Sequence[int], kv: Any, logits_of: Sequence[int]
    ) -> "torch.Tensor":
        """float32 [len(logits_of), vocab_size], in DRAM."""
        ...

    def decode(self, token_ids: Sequence[int], starts: Sequence[int], kv: Any) -> "torch.Tensor":
        """One token of each sequence: float32 [sequences, vocab_size], in DRAM."""
        ...

    def after_layer(self, act: Callable[[int], None]) -> None:
        """From now on, whenever a layer is computed, call ``act`` with the number of new tokens before the next one begins."""
        ...


class MeasuredAdapter(Adapter, Protocol):
    """One that can say how fast it is."""

    def profile(self, max_context_tokens: int, repeats: int) -> EngineProfile: ...


def make_adapter(
    description: ModelDescription, dtype: str, seed: int, device: str, kv_dtype: str, prefills: bool
) -> MeasuredAdapter:
    """Args: prefills: not only decodes. Raises: ConfigError when the model cannot be loaded."""
    if is_timed(description.model):
        from dualpath_ray.engine.timed import TimedAdapter

        return TimedAdapter(description)
    from dualpath_ray.engine.model import ModelAdapter

    return ModelAdapter(description, dtype, seed, device, kv_dtype, prefills)
