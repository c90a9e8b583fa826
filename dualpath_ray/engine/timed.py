"""A model that computes nothing and takes the time that it is named for: to measure what else moves (section 5).

``timed-8l-5ms`` has 8 layers of 5 ms each, whatever the batch. Its KV has the size of a small model's and no content; the
token after one is a function of it.
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dualpath_ray.base.errors import ConfigError
from dualpath_ray.engine.memory import Loading
from dualpath_ray.engine.profile import EngineProfile
from dualpath_ray.kv.segment import Segment

if TYPE_CHECKING:
    import torch

    from dualpath_ray.engine.describe import ModelDescription

_NAME = re.compile(r"timed-([1-9]\d*)l-([1-9]\d*)(us|ms)")
_UNITS = {"us": 1e-6, "ms": 1e-3}
KV_ELEMENTS = 512  # of a token and layer
VOCAB_SIZE, CONTEXT_TOKENS = 512, 1 << 20


def is_timed(model: str) -> bool:
    return model.startswith("timed-")


def layer_time(model: str) -> tuple[int, float]:
    """(layers, seconds of each). Raises: ConfigError when the name says neither."""
    match = _NAME.fullmatch(model)
    if not match:
        raise ConfigError(f"model: {model} is no timed model; write for example timed-8l-5ms: 8 layers of 5 ms each")
    return int(match[1]), int(match[2]) * _UNITS[match[3]]


def describe_timed(model: str) -> "ModelDescription":
    """Raises: ConfigError as ``layer_time``."""
    from dualpath_ray.engine.describe import ModelDescription

    return ModelDescription(
        model=model,
        fingerprint=hashlib.sha256(model.encode()).hexdigest(),
        architecture="Timed",
        num_layers=layer_time(model)[0],
        num_heads=1,
        head_dim=KV_ELEMENTS // 2,
        kv_elements_per_token_layer=KV_ELEMENTS,
        latent=False,
        index_elements=0,
        vocab_size=VOCAB_SIZE,
        max_context_tokens=CONTEXT_TOKENS,
        end_token_ids=(),
        weight_bytes=0,
    )


def next_token(token: int) -> int:
    return (31 * token + 7) % VOCAB_SIZE


class DeviceTime:
    """How far a device is that goes on by itself, as a GPU does, in seconds of this host's monotonic clock.

    Its host waits for it, and may wake up late; the device does what it was told in time no later for that.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.at_s = 0.0
        self._clock, self._sleep = clock, sleep

    def told(self) -> None:
        """The host gives it more to do."""
        self.at_s = max(self.at_s, self._clock())

    def wait_until(self, end_s: float) -> None:
        """Returns when the device is there: then, or now, if its host tells it too late."""
        self.told()
        self.at_s = max(self.at_s, end_s)
        self._wait()

    def take(self, seconds: float) -> None:
        """Returns when the device has computed for so long."""
        self.at_s += seconds
        self._wait()

    def _wait(self) -> None:
        self._sleep(max(0.0, self.at_s - self._clock()))


def sleep_until(at_s: float) -> None:
    """Args: at_s: of the monotonic clock."""
    time.sleep(max(0.0, at_s - time.monotonic()))


class TimedAdapter:
    """Adapter of a timed model."""

    def __init__(self, description: "ModelDescription", device: DeviceTime | None = None) -> None:
        self.description = description
        self.device = device or DeviceTime()
        self._num_layers, self._layer_s = layer_time(description.model)
        self._act: Callable[[int], None] = lambda num_tokens: None

    def forward(
        self, token_ids: Sequence[Sequence[int]], starts: Sequence[int], kv: Any, logits_of: Sequence[int]
    ) -> "torch.Tensor":
        for layer in range(self._num_layers):
            rows = kv.begin_layer(layer)
            self.device.told()  # its host waited for the cached rows
            for own, start in zip(rows, starts, strict=True):
                own[start:] = 0  # bytes of nobody's memory must not go to storage
            self.device.take(self._layer_s)
            kv.end_layer(layer)
            self._act(sum(map(len, token_ids)))
        return _choosing([token_ids[i][-1] for i in logits_of])

    def decode(self, token_ids: Sequence[int], starts: Sequence[int], kv: Any) -> "torch.Tensor":
        self.device.told()
        for layer in range(self._num_layers):
            kv.begin_layer(layer)
            self.device.take(self._layer_s)
            kv.end_layer(layer)
            self._act(len(token_ids))
        return _choosing(token_ids)

    def after_layer(self, act: Callable[[int], None]) -> None:
        self._act = act

    def profile(self, max_context_tokens: int, repeats: int) -> EngineProfile:
        forward_s = self._num_layers * self._layer_s
        return EngineProfile(1e-18, self._layer_s, max_context_tokens / forward_s, max_context_tokens / forward_s)


def _choosing(tokens: Sequence[int]) -> "torch.Tensor":
    """Logits that choose the token after each."""
    import torch

    return torch.nn.functional.one_hot(
        torch.tensor([next_token(t) for t in tokens], dtype=torch.long), VOCAB_SIZE
    ).float()


class TimedSequences:
    """DecodeMemory that holds nothing: what a GPU's copy engines would do takes no time here."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def load(self, slots: Sequence[int], prompt_tokens: int, max_tokens: int, num_samples: int) -> Loading:
        return Loading(range(num_samples))

    def step(self, sequences: Sequence[tuple[Any, int]]) -> "TimedSequences":
        return self

    def begin_layer(self, layer: int) -> None:
        """Nothing is read."""

    def end_layer(self, layer: int) -> None:
        """Nothing is kept."""

    def copy_out(self, kv: Any, first: int, slot: int) -> None:
        self._segment.full_block(slot)[:] = np.uint8(0)

    def free(self, kv: Any) -> None:
        """There is nothing."""
